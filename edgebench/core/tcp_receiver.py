"""A receiver of TCP: what has arrived, and when it says so."""

from __future__ import annotations

from collections.abc import Sequence

PACKET_BYTES = 1448
"""Of payload: an Ethernet frame's 1,500 less IPv4's and TCP's headers, with time stamps."""

_QUICK_PACKETS = 16


class Run:
    """Packets that are sent together: the bytes from `first` up to `end`. again: whether they were sent before."""

    __slots__ = ("again", "arrived", "end", "first", "lost", "packets", "sent_ns")

    def __init__(self, first: int, end: int, packets: int, sent_ns: int, *, again: bool) -> None:
        self.first = first
        self.end = end
        self.packets = packets
        self.sent_ns = sent_ns
        self.again = again
        self.arrived = False
        """As the sender knows."""
        self.lost = False
        """As the sender believes."""

    def split(self, packets: int) -> tuple[Run, Run]:
        """The first packets, and the rest. It stays as it is, since both ends may hold it."""
        middle = self.first + packets * PACKET_BYTES
        front = Run(self.first, middle, packets, self.sent_ns, again=self.again)
        rest = Run(middle, self.end, self.packets - packets, self.sent_ns, again=self.again)
        for part in (front, rest):
            part.arrived, part.lost = self.arrived, self.lost
        return front, rest


class Receiver:
    """It acknowledges every second full packet at once (RFC 5681), and as Linux does: the first sixteen packets, those
    after a duplicate, and those after a pause that is longer than its own timeout; whatever does not come in order; and
    a packet that is not full, since it ends a message, which the program answers. A full one that is alone waits.

    next: up to which byte all has arrived. waiting: what is not acknowledged. untold: what the sender has not heard of,
    since acknowledgements got lost.
    """

    __slots__ = ("_apart", "_came_ns", "_pause_ns", "_quick", "next", "untold", "waiting")

    def __init__(self, at_ns: int, pause_ns: int) -> None:
        """pause_ns: its timeout, from the handshake, which was over at `at_ns`."""
        self.next = 0
        self.waiting: list[Run] = []
        self.untold: list[Run] = []
        self._apart: dict[int, int] = {}
        self._quick = _QUICK_PACKETS
        self._came_ns = at_ns
        self._pause_ns = pause_ns

    def take(self, run: Run, now_ns: int) -> tuple[Sequence[int], bool]:
        """Take packets in. Of each acknowledgement that is sent at once, how many of the packets that wait by now it
        tells of; and whether they came before, and each of them tells so (RFC 2883)."""
        if run.end <= self.next or any(first <= run.first and run.end <= end for first, end in self._apart.items()):
            self._quick = _QUICK_PACKETS
            return [_packets(self.waiting)] * run.packets, True
        gap = bool(self._apart)
        if run.first <= self.next:
            if now_ns - self._came_ns > self._pause_ns:
                self._quick = max(self._quick, _QUICK_PACKETS)
            self._came_ns = now_ns
        self._apart[run.first] = run.end
        while self._apart and (first := min(self._apart)) <= self.next:
            self.next = max(self.next, self._apart.pop(first))
        before = _packets(self.waiting)
        self.waiting.append(run)
        self._quick -= run.packets
        if gap or self._apart or self._quick >= 0:
            return range(before + 1, before + run.packets + 1), False
        short = run.end - run.first < run.packets * PACKET_BYTES
        acks = range(2, before + run.packets + 1, 2)
        return ([*acks, before + run.packets] if short and (before + run.packets) % 2 else acks), False

    def tell(self, sent: int, heard: int | None) -> list[Run]:
        """So many packets that wait are acknowledged. heard: of how many the last acknowledgement tells that gets
        there; None: none does. What the sender hears of thereby."""
        now, self.waiting = _divided(self.waiting, sent)
        if heard is None:
            self.untold += now
            return []
        front, rest = _divided(now, heard)
        told, self.untold = self.untold + front, rest
        return told


def _packets(runs: list[Run]) -> int:
    return sum(run.packets for run in runs)


def _divided(runs: list[Run], packets: int) -> tuple[list[Run], list[Run]]:
    """The first so many packets, and the rest."""
    for place, run in enumerate(runs):
        if packets < run.packets:
            if not packets:
                return runs[:place], runs[place:]
            front, rest = run.split(packets)
            return [*runs[:place], front], [rest, *runs[place + 1 :]]
        packets -= run.packets
    return runs, []
