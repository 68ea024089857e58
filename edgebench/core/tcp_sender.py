"""A sender of TCP: what it sends when, what it takes for lost, and when it sends that again.

It finds losses as Linux does: by selective acknowledgements and the times of sending (RACK), by a probe of the tail
(TLP), else by a retransmission timeout; its window is CUBIC's (`cubic.py`).

Sources: RFC 2018 (selective acknowledgements), RFC 3708 (what arrived twice), RFC 6298 (the timeout; the variation
counts as 200 ms at least, as in Linux), RFC 7661 (a window that does not hold back does not grow), RFC 8985 (RACK-TLP).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, Protocol

from edgebench.clock import NS_PER_MS, NS_PER_S
from edgebench.core.cubic import Cubic
from edgebench.core.tcp_receiver import PACKET_BYTES, Run

_LEAST_VARIATION_NS = 200 * NS_PER_MS
_MOST_TIMEOUT_NS = 120 * NS_PER_S
_TIMER_NS = 2 * NS_PER_MS
_REORDERING = 3


def first_timeout_ns(rtt_ns: int) -> int:
    """The retransmission timeout after a first round trip."""
    return rtt_ns + max(_LEAST_VARIATION_NS, 2 * rtt_ns)


class Network(Protocol):
    """What carries packets. held_until_ns: until then it takes no new ones. most_packets: that it takes together."""

    held_until_ns: int
    most_packets: int

    def launch(self, now_ns: int, first: int, end: int, packets: int, *, again: bool) -> list[Run]:
        """Send packets, as runs that pass or get lost whole."""


class Sender:
    """offered: bytes to send, all in all; the end, once `to_end` is set, counts as one more.

    timer: when it wants to be called, and what. held_ns: when it could go on with what it has, where the network holds
    it back.
    """

    def __init__(self, network: Network, at_ns: int, rtt_ns: int) -> None:
        """rtt_ns: of the handshake, which was over at `at_ns`."""
        self.offered = 0
        self.to_end = False
        self.timer: tuple[int, Callable[[int], None]] | None = None
        self.held_ns: int | None = None
        self._network = network
        self._cubic = Cubic()
        self._next = 0
        self._acknowledged = 0
        self._runs: list[Run] = []
        self._in_flight = 0
        self._lost = 0
        self._again = 0
        self._arrived_apart = 0
        self._state: Literal["open", "recovery", "loss"] = "open"
        self._recovered_at = 0
        self._round_ends_at = 0
        self._rtt_ns = 0.0
        self._variation_ns = 0.0
        self._least_rtt_ns = float("inf")
        self._backoff = 0
        self._newest = (-1, -1)
        self._newest_rtt_ns = 0
        self._probe: Run | None = None
        self._is_limited = False
        self._limited_until = 0
        self._most_out = 0
        self._last_sent_ns = at_ns
        self._timer_from_ns = at_ns
        self._sample(rtt_ns)

    def send(self, now_ns: int) -> None:
        """What was lost, then what is new, as far as the window goes."""
        if not self._runs and now_ns - self._last_sent_ns > self._timeout_ns:
            self._cubic.idle((now_ns - self._last_sent_ns) / self._timeout_ns)
        room = self._cubic.window - self._in_flight
        if self._lost and room > 0:
            room -= self._send_again(now_ns, room)
        sent_new = False
        while room > 0 and (packets := self._waiting_packets) and now_ns >= self._network.held_until_ns:
            room -= self._send_new(now_ns, min(room, packets, self._network.most_packets))
            sent_new = True
        is_held = room > 0 and now_ns < self._network.held_until_ns and self._waiting_packets
        self.held_ns = self._network.held_until_ns if is_held else None
        self._note_limit(limited=room <= 0, sent=sent_new)
        if sent_new:
            self._set_timer(now_ns)

    def take_acknowledgement(self, arrived: list[Run], duplicates: int, now_ns: int) -> None:
        """What has arrived at the other end that it had not told before, and how many packets did again."""
        acknowledged_before = self._acknowledged
        delivered = sum(self._note_arrival(run) for run in arrived)
        if arrived:
            self._sample(now_ns - arrived[0].sent_ns)
            self._least_rtt_ns = min(self._least_rtt_ns, now_ns - arrived[-1].sent_ns)
            newest = max(arrived, key=lambda run: (run.sent_ns, run.end))
            if (newest.sent_ns, newest.end) > self._newest:
                self._newest, self._newest_rtt_ns = (newest.sent_ns, newest.end), now_ns - newest.sent_ns
        while self._runs and self._runs[0].arrived:
            run = self._runs.pop(0)
            self._arrived_apart -= run.packets
            self._acknowledged = run.end
        progress = self._acknowledged > acknowledged_before
        if progress:
            self._backoff = 0
            self._timer_from_ns = now_ns
        self._look_at_round(now_ns)
        self._end_probe(duplicates)
        if duplicates:
            self._take_back(duplicates)
        if self._state != "open" and self._acknowledged >= self._recovered_at:
            if self._state == "recovery":
                self._cubic.recovered()
            self._state = "open"
        self.timer = None
        found = self._find_lost(now_ns)
        if self._lost and self._state == "open":
            self._begin_recovery()
        if self._state == "recovery":
            self._cubic.reduce(delivered, self._in_flight, progress=progress and not found)
        elif progress and self._may_grow:
            self._cubic.grow(now_ns / NS_PER_S, delivered, self._least_rtt_ns / NS_PER_S)
        if self.timer is None:
            self._set_timer(now_ns)

    @property
    def _waiting_packets(self) -> int:
        packets = -(-(self.offered - self._next) // PACKET_BYTES)
        return packets + (self.to_end and self._next <= self.offered)

    def _send_new(self, now_ns: int, packets: int) -> int:
        left = self.offered - self._next
        if left <= 0:
            packets, end = 1, self._next + 1  # the end counts as a byte
        else:
            packets = min(packets, -(-left // PACKET_BYTES))
            end = self._next + min(packets * PACKET_BYTES, left)
        if not self._runs:
            self._cubic.pause((now_ns - self._last_sent_ns) / NS_PER_S)
            self._timer_from_ns = now_ns
        self._runs += self._launch(now_ns, self._next, end, packets, again=False)
        self._next = end
        return packets

    def _send_again(self, now_ns: int, room: int) -> int:
        sent, index = 0, 0
        while sent < room and self._lost:
            run = self._runs[index]
            if not run.lost:
                index += 1
                continue
            packets = min(run.packets, room - sent)
            end = run.end if packets == run.packets else run.first + packets * PACKET_BYTES
            runs = self._launch(now_ns, run.first, end, packets, again=True)
            if index == 0:
                self._timer_from_ns = now_ns
            if packets < run.packets:
                runs.append(run.split(packets)[1])
            self._runs[index : index + 1] = runs
            self._lost -= packets
            self._again += packets
            sent += packets
        if sent and self.timer is None:
            self._set_timer(now_ns)
        return sent

    def _launch(self, now_ns: int, first: int, end: int, packets: int, *, again: bool) -> list[Run]:
        self._in_flight += packets
        self._last_sent_ns = now_ns
        if self._state == "recovery":
            self._cubic.sent(packets)
        return self._network.launch(now_ns, first, end, packets, again=again)

    def _note_limit(self, *, limited: bool, sent: bool) -> None:
        """Whether it is the window that holds the sender back: else that does not grow (RFC 7661, as Linux has it)."""
        if not limited and not sent:
            return
        out = sum(run.packets for run in self._runs) if not limited else 0
        if limited or self._acknowledged >= self._limited_until or (not self._is_limited and out > self._most_out):
            self._is_limited = limited
            self._most_out = out
            self._limited_until = self._next

    def _note_arrival(self, arrived: Run) -> int:
        """Packets that the sender did not know of."""
        delivered = index = 0
        while index < len(self._runs) and (run := self._runs[index]).first < arrived.end:
            index += 1
            if run.arrived or run.end <= arrived.first:
                continue
            if run.first < arrived.first:
                self._runs[index - 1 : index] = run.split((arrived.first - run.first) // PACKET_BYTES)
                continue
            if run.end > arrived.end:
                run, rest = run.split((arrived.end - run.first) // PACKET_BYTES)
                self._runs[index - 1 : index] = run, rest
            run.arrived = True
            delivered += run.packets
            if run.lost:
                run.lost = False
                self._lost -= run.packets
            else:
                self._in_flight -= run.packets
        self._arrived_apart += delivered
        return delivered

    def _sample(self, rtt_ns: int) -> None:
        if not self._rtt_ns:
            self._rtt_ns, self._variation_ns = float(max(rtt_ns, 1)), rtt_ns / 2
            return
        self._variation_ns += (abs(rtt_ns - self._rtt_ns) - self._variation_ns) / 4
        self._rtt_ns += (rtt_ns - self._rtt_ns) / 8

    def _look_at_round(self, now_ns: int) -> None:
        now_s = now_ns / NS_PER_S
        if self._acknowledged >= self._round_ends_at:
            self._cubic.begin_round(now_s)
            self._round_ends_at = self._next
        self._cubic.look(now_s, self._newest_rtt_ns / NS_PER_S, self._least_rtt_ns / NS_PER_S)

    @property
    def _may_grow(self) -> bool:
        return self._is_limited or (self._cubic.in_slow_start and self._cubic.window < 2 * self._most_out)

    def _end_probe(self, duplicates: int) -> None:
        """A probe that has repaired a loss counts as one; if it arrived twice, only its acknowledgement was lost."""
        if self._probe is not None and (duplicates or self._acknowledged >= self._probe.end):
            if self._probe.again and not duplicates and self._state == "open":
                self._cubic.lose()
                self._cubic.recovered()
            self._probe = None

    def _take_back(self, duplicates: int) -> None:
        """Where all that was sent again had arrived before, nothing was lost but acknowledgements (RFC 3708)."""
        before, self._again = self._again, max(self._again - duplicates, 0)
        if not before or self._again:
            return
        self._cubic.take_back()
        if self._state == "loss":
            for run in self._runs:
                if run.lost:  # only for the timeout's sake
                    run.lost = False
                    self._lost -= run.packets
                    self._in_flight += run.packets
        self._state = "open"

    def _find_lost(self, now_ns: int) -> int:
        """Give up what was sent a round trip before what has arrived; look again where that is not yet sure."""
        head = self._runs[0] if self._runs else None
        if head is None or (
            self._state == "open" and not self._arrived_apart and (head.sent_ns, head.end) >= self._newest
        ):
            return 0
        sure = self._state != "open" or self._arrived_apart >= _REORDERING
        patience_ns = 0 if sure else round(min(self._least_rtt_ns / 4, self._rtt_ns))
        found, wait_ns = 0, 0
        for run in self._runs:
            if run.arrived or run.lost or (run.sent_ns, run.end) >= self._newest:
                continue
            left_ns = run.sent_ns + self._newest_rtt_ns + patience_ns - now_ns
            if left_ns > 0:
                wait_ns = max(wait_ns, left_ns)
            else:
                found += self._give_up(run)
        if wait_ns:
            self.timer = (now_ns + wait_ns + _TIMER_NS, self._look_again)
        return found

    def _give_up(self, run: Run) -> int:
        run.lost = True
        self._lost += run.packets
        self._in_flight -= run.packets
        return run.packets

    def _begin_recovery(self) -> None:
        self._state = "recovery"
        self._again = 0
        self._recovered_at = self._next
        self._cubic.lose()

    # Timers: one at a time.

    @property
    def _timeout_ns(self) -> int:
        timeout_ns = self._rtt_ns + max(_LEAST_VARIATION_NS, 4 * self._variation_ns)
        # Ten times doubled, the least is above the most.
        return round(min(timeout_ns * 2 ** min(self._backoff, 10), _MOST_TIMEOUT_NS))

    def _set_timer(self, now_ns: int) -> None:
        """Probe the tail where nothing speaks of a loss yet, else time out."""
        if not self._runs:
            self.timer = None
            return
        timeout_due_ns = max(self._timer_from_ns, self._runs[0].sent_ns) + self._timeout_ns
        self.timer = (max(timeout_due_ns, now_ns), self._time_out)
        if self._state == "open" and not self._arrived_apart and self._probe is None:
            alone = len(self._runs) == 1 and self._runs[0].packets == 1
            probe_ns = round(2 * self._rtt_ns) + (_LEAST_VARIATION_NS if alone else _TIMER_NS)
            self.timer = (min(self.timer[0], now_ns + probe_ns), self._probe_tail)

    def _look_again(self, now_ns: int) -> None:
        if self._find_lost(now_ns) and self._state == "open":
            self._begin_recovery()
            self._cubic.reduce(1, self._in_flight, progress=False)
        if self.timer is None:
            self._set_timer(now_ns)

    def _probe_tail(self, now_ns: int) -> None:
        """Send something new, or the last packet again: what comes back tells what is missing."""
        if self._waiting_packets:
            self._send_new(now_ns, 1)
        else:
            last = self._runs.pop()
            if last.packets > 1:
                front, last = last.split(last.packets - 1)
                self._runs.append(front)
            self._in_flight -= 1
            self._runs += self._launch(now_ns, last.first, last.end, 1, again=True)
        self._probe = self._runs[-1]
        self._timer_from_ns = now_ns
        self._set_timer(now_ns)

    def _time_out(self, now_ns: int) -> None:
        anew = self._state == "open" or (self._state == "loss" and not self._backoff)
        if anew:
            self._again = 0
        for index, run in enumerate(self._runs):
            recent = run.sent_ns + self._newest_rtt_ns > now_ns
            if not run.arrived and not run.lost and (index == 0 or not recent):
                self._give_up(run)
        self._cubic.timed_out(anew=anew)
        self._cubic.window += self._in_flight
        self._state = "loss"
        self._recovered_at = self._next
        self._probe = None
        self._backoff += 1
        self._timer_from_ns = now_ns
