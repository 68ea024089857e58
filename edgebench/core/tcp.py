"""The law of TCP where packets get lost: when bytes that a connection is given arrive, in order, at its other end.

One direction of a connection is a flow: offers in, arrivals out, in the time of whoever calls. Its sender finds losses
and repairs them as Linux does: by selective acknowledgements and the times of sending (RACK), by a probe of the tail
(TLP), else by a retransmission timeout; its window is CUBIC's (`cubic.py`). Acknowledgements take the lanes back,
behind what is queued there, and are never lost: the next one tells the same. The receiver's window has room for all.

Sources: RFC 2018 (selective acknowledgements), RFC 5681 (delayed ones), RFC 6298 (the timeout; the variation counts as
200 ms at least, as in Linux), RFC 8985 (RACK-TLP). `benchmarks/links.py` holds it against the kernel's own TCP.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable, Iterable
from functools import partial
from typing import Literal

from edgebench.clock import NS_PER_MS, NS_PER_S
from edgebench.core.cubic import Cubic
from edgebench.core.links import WINDOW_NS, Lane, latency_ns, piece_bytes

PACKET_BYTES = 1448
"""Of payload: an Ethernet frame's 1,500 less IPv4's and TCP's headers, with time stamps."""

_LEAST_VARIATION_NS = 200 * NS_PER_MS
_MOST_TIMEOUT_NS = 120 * NS_PER_S
_CONNECT_AGAIN_NS = NS_PER_S
_TIMER_NS = 2 * NS_PER_MS
_DELAYED_NS = 40 * NS_PER_MS
_QUICK_PACKETS = 16
_REORDERING = 3


class _Run:
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


class _Receiver:
    """What has arrived, in order up to `next` or apart, and what of it is not acknowledged yet."""

    def __init__(self) -> None:
        self.next = 0
        self.unacknowledged: list[_Run] = []
        self._apart: dict[int, int] = {}
        self._quick = _QUICK_PACKETS

    def take(self, run: _Run) -> bool:
        """Take packets in; whether that is acknowledged at once."""
        gap_before = bool(self._apart)
        self._apart[run.first] = max(run.end, self._apart.get(run.first, 0))
        while self._apart and (first := min(self._apart)) <= self.next:
            self.next = max(self.next, self._apart.pop(first))
        self.unacknowledged.append(run)
        self._quick -= run.packets
        # A packet that is not full ends a message, which the peer answers.
        short = run.end - run.first < run.packets * PACKET_BYTES
        full = sum(each.packets for each in self.unacknowledged) > 1
        return short or full or gap_before or bool(self._apart) or self._quick >= 0


class TcpFlow:
    """One direction of a connection.

    arrived: bytes that have, in order. ended: whether the end has, too. Both as of the last call.
    """

    def __init__(self, lanes: tuple[Lane, ...], back: tuple[Lane, ...], at_ns: int) -> None:
        """lanes: that its bytes cross, one after the other. back: that acknowledgements do. at_ns: when its connection
        has been made, as `connected_ns` says."""
        self.arrived = 0
        self.ended = False
        self._lanes = lanes
        self._back = back
        self._receiver = _Receiver()
        self._cubic = Cubic()
        self._offered = 0
        self._to_end = False
        self._next = 0
        self._acknowledged = 0
        self._runs: list[_Run] = []
        self._in_flight = 0
        self._lost = 0
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
        self._probe: _Run | None = None
        self._is_limited = False
        self._limited_until = 0
        self._most_out = 0
        self._last_sent_ns = at_ns
        self._timer: tuple[int, Callable[[int], None]] | None = None
        self._timer_from_ns = at_ns
        self._held_until_ns = 0
        self._held_ns: int | None = None
        self._events: list[tuple[int, int, Callable[[int], None]]] = []
        self._order = itertools.count()
        self.reshaped()
        self._sample(latency_ns(lanes + back))

    @property
    def due_ns(self) -> int | None:
        """When `advance` has something to do; None: not before the next offer."""
        due_ns = self._events[0][0] if self._events else None
        if self._timer is not None and (due_ns is None or self._timer[0] < due_ns):
            due_ns = self._timer[0]
        if self._held_ns is not None and (due_ns is None or self._held_ns < due_ns):
            due_ns = self._held_ns
        return due_ns

    @property
    def pending(self) -> int:
        """Bytes that were offered and have not arrived."""
        return self._offered - self.arrived

    def reshaped(self) -> None:
        """The lanes are others now."""
        self._most_packets = max(1, piece_bytes(self._lanes) // PACKET_BYTES)

    def offer(self, at_ns: int, size_bytes: int) -> None:
        """Take bytes to send, not before any that were offered already."""
        self.advance(at_ns)
        self._offered += size_bytes
        self._send(at_ns)

    def end(self, at_ns: int) -> None:
        """Nothing more will be offered."""
        self.advance(at_ns)
        self._to_end = True
        self._send(at_ns)

    def advance(self, now_ns: int) -> None:
        """Do what is due by now, each at its time."""
        while (due_ns := self.due_ns) is not None and due_ns <= now_ns:
            while self._events and self._events[0][0] <= due_ns:
                heapq.heappop(self._events)[2](due_ns)
            if self._timer is not None and self._timer[0] <= due_ns:
                fire, self._timer = self._timer[1], None
                fire(due_ns)
            self._send(due_ns)

    # Sending.

    def _send(self, now_ns: int) -> None:
        """What was lost, then what is new, as far as the window goes."""
        if not self._runs and now_ns - self._last_sent_ns > self._timeout_ns:
            self._cubic.idle((now_ns - self._last_sent_ns) / self._timeout_ns)
        room = int(self._cubic.window) - self._in_flight
        if self._lost and room > 0:
            room -= self._send_again(now_ns, room)
        sent_new = False
        while room > 0 and (packets := self._waiting_packets) and now_ns >= self._held_until_ns:
            room -= self._send_new(now_ns, min(room, packets, self._most_packets))
            sent_new = True
        is_held = room > 0 and now_ns < self._held_until_ns and self._waiting_packets
        self._held_ns = self._held_until_ns if is_held else None
        self._note_limit(limited=room <= 0, sent=sent_new)
        if sent_new:
            self._set_timer(now_ns)

    @property
    def _waiting_packets(self) -> int:
        packets = -(-(self._offered - self._next) // PACKET_BYTES)
        return packets + (self._to_end and self._next <= self._offered)

    def _send_new(self, now_ns: int, packets: int) -> int:
        left = self._offered - self._next
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
                rest = _Run(end, run.end, run.packets - packets, run.sent_ns, again=run.again)
                rest.lost = True
                runs.append(rest)
            self._runs[index : index + 1] = runs
            self._lost -= packets
            sent += packets
        if sent and self._timer is None:
            self._set_timer(now_ns)
        return sent

    def _launch(self, now_ns: int, first: int, end: int, packets: int, *, again: bool) -> list[_Run]:
        """Send packets: those that pass, and those that get lost, are runs of their own."""
        self._in_flight += packets
        self._last_sent_ns = now_ns
        if self._state == "recovery":
            self._cubic.sent(packets)
        runs: list[_Run] = []
        while packets:
            passing, lost = self._fate(now_ns, packets)
            for count, gets_lost in ((passing, False), (lost, True)):
                if not count:
                    continue
                packets -= count
                run = _Run(first, first + count * PACKET_BYTES if packets else end, count, now_ns, again=again)
                first = run.end
                runs.append(run)
                if gets_lost:
                    self._hold(self._lanes[0].pipe.departure_ns(now_ns, run.end - run.first))
                else:
                    self._cross(0, run, now_ns)
        return runs

    def _fate(self, now_ns: int, packets: int) -> tuple[int, int]:
        """How many of these pass all lanes, and how many get lost then."""
        lost = 0
        for lane in self._lanes:
            if lane.losses is not None:
                passing, lost_here = lane.losses.among(now_ns, packets)
                if lost_here:
                    packets, lost = passing, lost_here
        return packets, lost

    def _note_limit(self, *, limited: bool, sent: bool) -> None:
        """Whether it is the window that holds the sender back: else that does not grow (RFC 7661, as Linux has it)."""
        if not limited and not sent:
            return
        out = sum(run.packets for run in self._runs) if not limited else 0
        if limited or self._acknowledged >= self._limited_until or (not self._is_limited and out > self._most_out):
            self._is_limited = limited
            self._most_out = out
            self._limited_until = self._next

    # On the way, and at the other end.

    def _at(self, due_ns: int, call: Callable[[int], None]) -> None:
        heapq.heappush(self._events, (due_ns, next(self._order), call))

    def _cross(self, hop: int, run: _Run, now_ns: int) -> None:
        departure_ns, arrival_ns = self._lanes[hop].carry(now_ns, run.end - run.first)
        self._hold(departure_ns)
        onward = partial(self._cross, hop + 1, run) if hop + 1 < len(self._lanes) else partial(self._receive, run)
        self._at(arrival_ns, onward)

    def _hold(self, departure_ns: int) -> None:
        """The sender is held back where a queue is as long as a router's."""
        self._held_until_ns = max(self._held_until_ns, departure_ns - WINDOW_NS)

    def _receive(self, run: _Run, now_ns: int) -> None:
        at_once = self._receiver.take(run)
        self.arrived = min(self._receiver.next, self._offered)
        self.ended = self._to_end and self._receiver.next > self._offered
        if at_once:
            self._acknowledge(now_ns)
        elif len(self._receiver.unacknowledged) == 1:
            self._at(now_ns + _DELAYED_NS, partial(self._acknowledge_late, run))

    def _acknowledge_late(self, run: _Run, now_ns: int) -> None:
        if run in self._receiver.unacknowledged:
            self._acknowledge(now_ns)

    def _acknowledge(self, now_ns: int) -> None:
        runs, self._receiver.unacknowledged = self._receiver.unacknowledged, []
        for lane in self._back:
            now_ns = lane.echo_ns(now_ns)
        self._at(now_ns, partial(self._take_acknowledgement, runs))

    # What comes back, and what does not.

    def _take_acknowledgement(self, arrived: list[_Run], now_ns: int) -> None:
        acknowledged_before = self._acknowledged
        delivered = sum(self._note_arrival(run) for run in arrived)
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
        self._end_probe()
        if self._state != "open" and self._acknowledged >= self._recovered_at:
            if self._state == "recovery":
                self._cubic.recovered()
            self._state = "open"
        self._timer = None
        found = self._find_lost(now_ns)
        if found and self._state == "open":
            self._begin_recovery()
        if self._state == "recovery":
            self._cubic.reduce(delivered, self._in_flight, progress=progress and not found)
        elif progress and self._may_grow:
            self._cubic.grow(now_ns / NS_PER_S, delivered, self._least_rtt_ns / NS_PER_S)
        if self._timer is None:
            self._set_timer(now_ns)

    def _note_arrival(self, arrived: _Run) -> int:
        """Packets that the sender did not know of."""
        delivered = 0
        for run in self._runs:
            if run.first >= arrived.end:
                break
            if run.first >= arrived.first and run.end <= arrived.end and not run.arrived:
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

    def _end_probe(self) -> None:
        """A probe that has repaired a loss counts as one."""
        if self._probe is not None and self._acknowledged >= self._probe.end:
            if self._probe.again and self._state == "open":
                self._cubic.lose()
                self._cubic.recovered()
            self._probe = None

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
            self._timer = (now_ns + wait_ns + _TIMER_NS, self._look_again)
        return found

    def _give_up(self, run: _Run) -> int:
        run.lost = True
        self._lost += run.packets
        self._in_flight -= run.packets
        return run.packets

    def _begin_recovery(self) -> None:
        self._state = "recovery"
        self._recovered_at = self._next
        self._cubic.lose()

    # Timers: one at a time.

    @property
    def _timeout_ns(self) -> int:
        timeout_ns = self._rtt_ns + max(_LEAST_VARIATION_NS, 4 * self._variation_ns)
        return round(min(timeout_ns * 2**self._backoff, _MOST_TIMEOUT_NS))

    def _set_timer(self, now_ns: int) -> None:
        """Probe the tail where nothing speaks of a loss yet, else time out."""
        if not self._runs:
            self._timer = None
            return
        timeout_due_ns = max(self._timer_from_ns, self._runs[0].sent_ns) + self._timeout_ns
        self._timer = (max(timeout_due_ns, now_ns), self._time_out)
        if self._state == "open" and not self._arrived_apart and self._probe is None:
            alone = len(self._runs) == 1 and self._runs[0].packets == 1
            probe_ns = round(2 * self._rtt_ns) + (_LEAST_VARIATION_NS if alone else _TIMER_NS)
            self._timer = (min(self._timer[0], now_ns + probe_ns), self._probe_tail)

    def _look_again(self, now_ns: int) -> None:
        if self._find_lost(now_ns):
            if self._state == "open":
                self._begin_recovery()
            if self._state == "recovery":
                self._cubic.reduce(1, self._in_flight, progress=False)
        if self._timer is None:
            self._set_timer(now_ns)

    def _probe_tail(self, now_ns: int) -> None:
        """Send something new, or the last packet again: what comes back tells what is missing."""
        if self._waiting_packets:
            self._send_new(now_ns, 1)
        else:
            last = self._runs.pop()
            before = max(last.first, last.end - PACKET_BYTES) if last.packets > 1 else last.first
            if last.packets > 1:
                rest = _Run(last.first, before, last.packets - 1, last.sent_ns, again=last.again)
                self._runs.append(rest)
            self._in_flight -= 1
            self._runs += self._launch(now_ns, before, last.end, 1, again=True)
        self._probe = self._runs[-1]
        self._timer_from_ns = now_ns
        self._set_timer(now_ns)

    def _time_out(self, now_ns: int) -> None:
        anew = self._state == "open" or (self._state == "loss" and not self._backoff)
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
