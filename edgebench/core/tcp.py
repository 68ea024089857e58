"""The law of TCP where packets get lost: when bytes that a connection is given arrive, in order, at its other end.

One direction of a connection is a flow: offers in, arrivals out, in the time of whoever calls. A sender
(`tcp_sender.py`) and a receiver (`tcp_receiver.py`) are joined by lanes, which lose packets by chance. Acknowledgements
take the lanes back, behind what is queued there, and may be lost, too. The receiver's window has room for all.
`benchmarks/links.py` holds it against the kernel's own TCP.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable, Iterable, Sequence
from functools import partial

from edgebench.clock import NS_PER_MS, NS_PER_S
from edgebench.core.links import WINDOW_NS, Lane, latency_ns, piece_bytes
from edgebench.core.tcp_receiver import PACKET_BYTES, Receiver, Run
from edgebench.core.tcp_sender import Sender, first_timeout_ns

_CONNECT_AGAIN_NS = NS_PER_S
_DELAYED_NS = 42 * NS_PER_MS
"""Linux' 40 ms, and half of a tick of 4 ms: so late are its timers, on average."""


class TcpFlow:
    """One direction of a connection.

    arrived: bytes that have, in order. ended: whether the end has, too. Both as of the last call.
    """

    def __init__(self, lanes: tuple[Lane, ...], back: tuple[Lane, ...], at_ns: int) -> None:
        """lanes: that its bytes cross, one after the other. back: that acknowledgements do. at_ns: when its connection
        has been made, as `connected_ns` says."""
        self.arrived = 0
        self.ended = False
        self.held_until_ns = 0
        self._lanes = lanes
        self._back = back
        rtt_ns = latency_ns(lanes + back)
        self._receiver = Receiver(at_ns, first_timeout_ns(rtt_ns))
        self._sender = Sender(self, at_ns, rtt_ns)
        self._events: list[tuple[int, int, Callable[[int], None]]] = []
        self._order = itertools.count()
        self.reshaped()

    @property
    def due_ns(self) -> int | None:
        """When `advance` has something to do; None: not before the next offer."""
        sender = self._sender
        due_ns = self._events[0][0] if self._events else None
        if sender.timer is not None and (due_ns is None or sender.timer[0] < due_ns):
            due_ns = sender.timer[0]
        if sender.held_ns is not None and (due_ns is None or sender.held_ns < due_ns):
            due_ns = sender.held_ns
        return due_ns

    def reshaped(self) -> None:
        """The lanes are others now."""
        self.most_packets = max(1, piece_bytes(self._lanes, answered=True) // PACKET_BYTES)

    def offer(self, at_ns: int, size_bytes: int) -> None:
        """Take bytes to send, not before any that were offered already."""
        self.advance(at_ns)
        self._sender.offered += size_bytes
        self._sender.send(at_ns)

    def end(self, at_ns: int) -> None:
        """Nothing more will be offered."""
        self.advance(at_ns)
        self._sender.to_end = True
        self._sender.send(at_ns)

    def advance(self, now_ns: int) -> None:
        """Do what is due by now, each at its time."""
        sender = self._sender
        while (due_ns := self.due_ns) is not None and due_ns <= now_ns:
            while self._events and self._events[0][0] <= due_ns:
                heapq.heappop(self._events)[2](due_ns)
            if sender.timer is not None and sender.timer[0] <= due_ns:
                fire, sender.timer = sender.timer[1], None
                fire(due_ns)
            sender.send(due_ns)

    def launch(self, now_ns: int, first: int, end: int, packets: int, *, again: bool) -> list[Run]:
        """See `Network`."""
        runs: list[Run] = []
        while packets:
            passing, lost = _fate(self._lanes, now_ns, packets)
            for count, gets_lost in ((passing, False), (lost, True)):
                if not count:
                    continue
                packets -= count
                run = Run(first, first + count * PACKET_BYTES if packets else end, count, now_ns, again=again)
                first = run.end
                runs.append(run)
                if gets_lost:
                    self._hold(self._lanes[0].pipe.departure_ns(now_ns, run.end - run.first))
                else:
                    self._cross(0, run, now_ns)
        return runs

    def _at(self, due_ns: int, call: Callable[[int], None]) -> None:
        heapq.heappush(self._events, (due_ns, next(self._order), call))

    def _cross(self, hop: int, run: Run, now_ns: int) -> None:
        departure_ns, arrival_ns = self._lanes[hop].carry(now_ns, run.end - run.first)
        self._hold(departure_ns)
        onward = partial(self._cross, hop + 1, run) if hop + 1 < len(self._lanes) else partial(self._receive, run)
        self._at(arrival_ns, onward)

    def _hold(self, departure_ns: int) -> None:
        """The sender is held back where a queue is as long as a router's."""
        self.held_until_ns = max(self.held_until_ns, departure_ns - WINDOW_NS)

    def _receive(self, run: Run, now_ns: int) -> None:
        receiver = self._receiver
        acks, again = receiver.take(run, now_ns)
        self.arrived = min(receiver.next, self._sender.offered)
        self.ended = self._sender.to_end and receiver.next > self._sender.offered
        if acks:
            self._acknowledge(acks, now_ns, again=again)
        if receiver.waiting:
            self._at(now_ns + _DELAYED_NS, partial(self._acknowledge_late, receiver.waiting[0]))

    def _acknowledge_late(self, run: Run, now_ns: int) -> None:
        if run in self._receiver.waiting:
            self._acknowledge([run.packets], now_ns, again=False)

    def _acknowledge(self, acks: Sequence[int], now_ns: int, *, again: bool) -> None:
        """What those tell that get lost, the next one tells; but that a packet came again is told once."""
        heard, last = self._heard(now_ns, len(acks))
        runs = self._receiver.tell(acks[-1], acks[last - 1] if last else None)
        if not last:
            return
        for lane in self._back:
            now_ns = lane.echo_ns(now_ns)
        self._at(now_ns, partial(self._sender.take_acknowledgement, runs, heard if again else 0))

    def _heard(self, now_ns: int, sent: int) -> tuple[int, int]:
        """Of acknowledgements one after the other, how many get there, and up to which: 0 where none does."""
        place = heard = last = 0
        while place < sent:
            passing, lost = _fate(self._back, now_ns, sent - place)
            heard += passing
            if passing:
                last = place + passing
            place += passing + lost
        return heard, last


def _fate(lanes: tuple[Lane, ...], now_ns: int, packets: int) -> tuple[int, int]:
    """How many of these pass all lanes, and how many get lost then; look at the rest anew."""
    lost = 0
    for lane in lanes:
        if lane.losses is not None:
            passing, lost_here = lane.losses.among(now_ns, packets)
            if lost_here:
                packets, lost = passing, lost_here
    return packets, lost


def connected_ns(lanes: tuple[Lane, ...], back: tuple[Lane, ...], at_ns: int) -> int:
    """When a connection has been made that is asked for at a time: a round trip later, or a second for each try that
    gets lost on either way."""
    while any(lane.losses is not None and lane.losses.among(at_ns, 1)[1] for lane in lanes + back):
        at_ns += _CONNECT_AGAIN_NS
    return at_ns + latency_ns(lanes + back)


def arrivals_ns(flow: TcpFlow, offers: Iterable[tuple[int, int]]) -> list[int]:
    """When the last byte of each offer (time in ns, size in bytes; ascending in time) arrives, in virtual time."""
    waiting = list(offers)
    found: list[int] = []
    ends = list(itertools.accumulate(size for _, size in waiting))

    def note(now_ns: int) -> None:
        while len(found) < len(ends) and flow.arrived >= ends[len(found)]:
            found.append(now_ns)

    for at_ns, size_bytes in waiting:
        while (due_ns := flow.due_ns) is not None and due_ns < at_ns:
            flow.advance(due_ns)
            note(due_ns)
        flow.offer(at_ns, size_bytes)
        note(at_ns)
    while len(found) < len(ends):
        due_ns = flow.due_ns
        assert due_ns is not None, "bytes are under way, so something is due"
        flow.advance(due_ns)
        note(due_ns)
    return found
