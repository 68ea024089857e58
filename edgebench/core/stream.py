"""One workload on one device: samples on schedule, and what has become of each."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import chain
from typing import Protocol

import msgspec

from edgebench.clock import NS_PER_MS, NS_PER_S, Time
from edgebench.core.batching import Served
from edgebench.core.pending import EarlierLives, Pending
from edgebench.core.samples import VERSION, Decision, NothingSensedError, Reading, SampleRecord, Stamps
from edgebench.core.schedules import open_loop, query_size, within
from edgebench.core.tallies import Tally
from edgebench.core.timeouts import LEAST_S, LONGEST_DRAIN_S, UNSEEN_S, DecisionTimeout, Expected
from edgebench.topology.deployment import WorkloadPlan
from edgebench.topology.model import After, Fixed, Load, Offline, Poisson, Server

_CLOSED_LOOP_LEAST_S = 10.0
_AGAINST_OVERRUN = 64
"""Samples sent in one turn of the loop at most, so that decisions are read meanwhile."""
_CUT_MARGIN_S = 1.0
"""A link is cut by another process, at its time or a little later."""
_REMEMBERED, _MOST_REMEMBERED = 1024, 65_536
"""Decisions of a stream of which is known how they were, should they come again: where its load has no rate, and where
that is high."""
_REMEMBERED_S, _REMEMBERED_BESIDE = 15.0, 16
"""So long ago is enough, and some more for what chance brings together: a broker that was started again has forgotten
10 s at most of what it had passed on. Where more than that waited for a decision, see `Stream._remember_more`."""
_WHILE_AWAY = -1
"""Of a sample that was given up as its device left."""
_BACKED_UP_NS = NS_PER_MS
"""How soon an offline load looks again whether its way takes more."""


class SampleSource(Protocol):
    """Where a stream's samples come from."""

    def capture(self) -> Reading:
        """What is sensed now. Raises NothingSensedError."""
        ...


class Way(Protocol):
    """How a stream's samples come to be decided."""

    @property
    def backed_up(self) -> bool:
        """Whether what was sent still waits to set out."""
        ...

    def send(self, stream: Stream, seq: int, scheduled_ns: int, captured_ns: int, reading: Reading) -> Pending:
        """Send a sample. What becomes of it comes back to `stream.decided`, later than this returns."""
        ...

    def send_again(self, incarnation: int, seq: int, envelope: bytes, *, moved: bool) -> None:
        """Send what was sent, or held back, before. moved: the device has, so that nothing is on its way any more; else
        what still is, is left alone."""
        ...


_NO_EARLIER_LIFE = EarlierLives()


class Stream:
    """One workload on one device; it is called in one thread."""

    __slots__ = (
        "_accounted_before",
        "_all_at_once",
        "_asked_ns",
        "_awaited",
        "_cut_ns",
        "_cut_s",
        "_decided_before",
        "_earlier",
        "_earlier_finished_ns",
        "_end_ns",
        "_finished_ns",
        "_given_up",
        "_goes_on_ns",
        "_highest_decided",
        "_hopeless",
        "_kept",
        "_next_seq",
        "_now_ns",
        "_offsets",
        "_present",
        "_query_size",
        "_rows",
        "_sensed_before",
        "_source",
        "_start_ns",
        "_time",
        "_way",
        "device",
        "followers",
        "incarnation",
        "last_arrival_ns",
        "pending",
        "plan",
        "tally",
        "timeout",
    )

    def __init__(
        self,
        device: str,
        plan: WorkloadPlan,
        source: SampleSource,
        way: Way,
        tally: Tally,
        time: Time,
        rows: list[SampleRecord],
        expected: Expected | None = None,
        incarnation: int = 0,
        earlier: EarlierLives = _NO_EARLIER_LIFE,
        *,
        kept: bool = False,
    ) -> None:
        """rows: where a row is added for each sample that is decided or given up. incarnation: of the device; one that
        was started again goes on with what is due from then on, and with what is undecided of its earlier lives. kept:
        its samples survive whoever takes them, so that at the end it is waited for whoever is just started again."""
        self.device = device
        self.incarnation = incarnation
        self.plan = plan
        self.tally = tally
        self.pending: dict[int, Pending] = {}
        self.last_arrival_ns = 0
        self.timeout = DecisionTimeout(
            expected or Expected(), LEAST_S if query_size(plan.load) is None else _CLOSED_LOOP_LEAST_S
        )
        self.followers: list[Stream] = []
        """Those of the same device that have a sample of a frame once this one's is decided."""
        self._source = source
        self._way = way
        self._time = time
        self._now_ns = time.now_ns
        self._rows = rows
        self._next_seq = 0
        self._highest_decided: dict[str, int] = {}
        self._offsets: Iterator[int] = iter(())
        self._query_size = query_size(plan.load)
        self._all_at_once = isinstance(plan.load, Offline)
        self._start_ns = 0
        self._goes_on_ns = 0
        self._end_ns = 0
        self._cut_s = None if expected is None else expected.cut_s.get(device)
        self._cut_ns: int | None = None
        """From when on no decision can come any more, whatever becomes of the run."""
        self._awaited = plan.load.workloads if isinstance(plan.load, After) else ()
        self._decided_before: dict[int, int] = {}
        self._given_up: dict[int, int] = {}
        self._hopeless: set[int] = set()
        self._present: Sequence[tuple[int, int]] = ()
        self._finished_ns = array("q", bytes(8 * _remembered(plan.load)))
        """When the decider was done with each of the last samples, by their number modulo how many these are."""
        self._earlier = earlier.undecided
        self._earlier_finished_ns: dict[tuple[int, int], int] = {}
        self._sensed_before = earlier.sensed
        self._accounted_before = earlier.accounted
        self.tally.scheduled += earlier.uncounted
        self._asked_ns = 0
        self._kept = kept

    def begin(
        self,
        start_ns: int,
        *,
        seed: int,
        duration_s: float,
        trace_s: list[float],
        present: Sequence[tuple[int, int]] = (),
    ) -> None:
        """Sense from `start_ns` on. trace_s: the times of a trace, where the load is one. present: from when to when
        the device is there, ns from then on, where that is not all the time."""
        self._present = present
        self._start_ns = start_ns
        self._end_ns = start_ns + int(duration_s * NS_PER_S)
        if self._cut_s is not None:
            self._cut_ns = start_ns + int((self._cut_s + _CUT_MARGIN_S) * NS_PER_S)
        goes_on_ns = self._goes_on_ns = max(start_ns, self._now_ns()) if self.incarnation else start_ns
        if self._query_size is not None:
            self._time.call_at(goes_on_ns, partial(self._query, goes_on_ns))
            return
        offsets = open_loop(
            self.plan.load,
            seed=seed,
            device=self.device,
            workload=self.plan.paced_by or self.plan.name,
            duration_s=duration_s,
            trace_s=trace_s,
        )
        self._offsets = within(offsets, present) if present else offsets
        offset_ns = next(self._offsets, None)
        while offset_ns is not None and self._is_past(start_ns + offset_ns, goes_on_ns):
            self._next_seq += 1
            offset_ns = next(self._offsets, None)
        self.tally.missed += max(0, self._next_seq - self._accounted_before)
        self._arm(offset_ns)

    def _is_past(self, due_ns: int, goes_on_ns: int) -> bool:
        """Whether an earlier life has sensed it, or nobody was there to. An offline load has all of its time."""
        return self._next_seq < self._sensed_before or (due_ns < goes_on_ns and not self._all_at_once)

    def decided(self, decision: Decision, arrived_ns: int, reply_bytes: int) -> None:
        """A decision came in."""
        seq = decision.seq
        if decision.incarnation != self.incarnation:
            self._decided_of_another_life(decision, arrived_ns, reply_bytes)
            return
        finished_ns = decision.stamps.finished_ns
        pending = self.pending.pop(seq, None)
        if pending is None:
            if seq in self._given_up:
                # Too late: it is written down as lost. The next one is waited for longer.
                since_ns = self._given_up.pop(seq)
                if since_ns != _WHILE_AWAY:
                    self._note_time(arrived_ns - since_ns)
                self._finished_ns[seq % len(self._finished_ns)] = finished_ns
            elif 0 <= seq < self._next_seq:
                self._came_again(is_the_same=self._finished_ns[seq % len(self._finished_ns)] == finished_ns)
            else:
                self.tally.unexpected += 1
            return
        # By decider: what the edge passes on to the cloud takes longer than what it decides itself.
        if seq < self._highest_decided.get(decision.decider, -1):
            self.tally.reordered += 1
        else:
            self._highest_decided[decision.decider] = seq
        self._finished_ns[seq % len(self._finished_ns)] = finished_ns
        self.tally.decided += 1
        self.last_arrival_ns = arrived_ns
        if arrived_ns - pending.captured_ns > self.timeout.slowest_ns:
            self._note_time(arrived_ns - pending.captured_ns)
        self._write_down(self.incarnation, seq, pending, arrived_ns, reply_bytes, decision)
        for follower in self.followers:
            follower.decided_before(seq, arrived_ns)
        if self._query_size is not None and not self.pending:
            self._query(arrived_ns)

    def set_out(self, seq: int, pending: Pending) -> None:
        """A sample that had a first stage to pass on its device has set out, or was refused. It is still awaited."""
        self.pending[seq] = pending
        if pending.size_bytes > self.timeout.largest_bytes:
            self.timeout.largest_bytes = pending.size_bytes
        if pending.refused:
            self.dropped(seq, pending.refused)
        else:
            self.tally.sent += 1

    def decided_before(self, seq: int, now: int) -> None:
        """One of the workloads that are awaited has decided a frame; with the last of them it is sent."""
        if not self._end_ns:
            return  # it has not begun
        count = self._decided_before.pop(seq, 0) + 1
        if count < len(self._awaited):
            self._decided_before[seq] = count
        else:
            self._send(now, seq)

    def dropped(self, seq: int, reason: str) -> None:
        """A sample will not be decided."""
        self.tally.drop(reason)
        if self._query_size is not None:
            self._hopeless.add(seq)  # with the others of its query it is given up
        elif (pending := self.pending.pop(seq, None)) is not None:
            self._write_down(self.incarnation, seq, pending)

    @property
    def takes_along(self) -> list[tuple[int, int, bytes]]:
        """The samples that are undecided, and may be sent again: incarnation, sequence number and envelope."""
        ours = [(self.incarnation, seq, pending.envelope) for seq, pending in self.pending.items() if pending.envelope]
        return [(*key, pending.envelope) for key, pending in self._earlier.items()] + ours

    def send_again(self, *, moved: bool) -> None:
        """Publish what is undecided once more: the device is at another site now, or whoever takes its samples asks."""
        self._asked_ns = self._now_ns()
        for incarnation, seq, envelope in self.takes_along:
            self._way.send_again(incarnation, seq, envelope, moved=moved)

    def send_again_if_silent(self, now: int) -> None:
        """Where nothing has come for so long that it would soon be given up, something may be lost."""
        waiting = next(chain(self._earlier.values(), self.pending.values()), None)
        if waiting is not None:
            since_ns = max(waiting.captured_ns, self.last_arrival_ns, self._asked_ns)
            if now - since_ns > self.timeout.quiet_ns // 2:
                self.send_again(moved=False)

    def give_up_query(self, now: int) -> None:
        """A closed loop whose query got no decision for too long, or can get none, goes on with the next; what was open
        is lost. Where no decision can come any more it ends."""
        if self._query_size is None or not self.pending:
            return
        since_ns = max(*(pending.captured_ns for pending in self.pending.values()), self.last_arrival_ns)
        waits_until_ns = max(since_ns, self._start_ns + self.timeout.back_ns) + self.timeout.quiet_ns
        is_cut = self._cut_ns is not None and now >= self._cut_ns
        if is_cut or self._all_hopeless or now > waits_until_ns:
            self._give_up_for_now()
            if not is_cut:
                self._query(now)

    def leave(self, now: int) -> None:
        """Its device is not there any more, and waits for nothing; it may come back."""
        goes_on = self._query_size is not None and bool(self.pending)
        left = [*self.pending]
        self._give_up_for_now()
        # Their decisions may be kept for it until it is back, which tells nothing of what they take.
        self._given_up.update((seq, _WHILE_AWAY) for seq in left if seq in self._given_up)
        if goes_on:
            self._query(now)

    def leaves_by_ns(self, now: int) -> int:
        """Until when a device that senses nothing more waits for what is undecided."""
        return max(now, self._start_ns + self.timeout.back_ns) + self.timeout.quiet_ns

    def _give_up_for_now(self) -> None:
        """A decision that comes later is known to be late."""
        self._given_up.update(
            (seq, pending.captured_ns) for seq, pending in self.pending.items() if seq not in self._hopeless
        )
        self.give_up()

    def waits_until_ns(self, last_sign_ns: int) -> int | None:
        """When the samples that are undecided after the end are given up; None where no decision can come any more.

        last_sign_ns: when the last decision came to any stream of the process.
        """
        if self._all_hopeless and not self._earlier:
            return None
        since_ns = max(last_sign_ns, self._end_ns, self._goes_on_ns, self._start_ns + self.timeout.back_ns)
        quiet_ns = max(self.timeout.quiet_ns, round(UNSEEN_S * NS_PER_S) if self._kept else 0)
        until_ns = min(since_ns + quiet_ns, self._end_ns + round(LONGEST_DRAIN_S * NS_PER_S))
        return until_ns if self._cut_ns is None else min(until_ns, self._cut_ns)

    def give_up(self) -> None:
        """Write down the samples that never got a decision; they no longer wait."""
        for key, pending in self._earlier.items():
            self._write_down(*key, pending)
        for seq, pending in self.pending.items():
            self._write_down(self.incarnation, seq, pending)
        self._earlier.clear()
        self.pending.clear()
        self._hopeless.clear()

    @property
    def _all_hopeless(self) -> bool:
        return all(seq in self._hopeless for seq in self.pending)

    def _decided_of_another_life(self, decision: Decision, arrived_ns: int, reply_bytes: int) -> None:
        key = decision.incarnation, decision.seq
        finished_ns = decision.stamps.finished_ns
        pending = self._earlier.pop(key, None)
        if pending is not None:
            self._earlier_finished_ns[key] = finished_ns
            self.tally.decided += 1
            self.last_arrival_ns = arrived_ns
            self._write_down(*key, pending, arrived_ns, reply_bytes, decision)
        elif key in self._earlier_finished_ns:
            self._came_again(is_the_same=self._earlier_finished_ns[key] == finished_ns)
        elif decision.incarnation < self.incarnation:
            self.tally.outlived += 1
        else:
            self.tally.unexpected += 1

    def _came_again(self, *, is_the_same: bool) -> None:
        """What travels at QoS 1 may arrive twice. Another decision on the same sample was made twice."""
        if is_the_same:
            self.tally.repeated += 1
        else:
            self.tally.duplicated += 1

    def _write_down(
        self,
        incarnation: int,
        seq: int,
        pending: Pending,
        arrived_ns: int | None = None,
        reply_bytes: int | None = None,
        decision: Decision | None = None,
    ) -> None:
        if pending.head is not None and decision is not None:
            stamps = msgspec.structs.replace(decision.stamps, head=pending.head)
            decision = msgspec.structs.replace(decision, stamps=stamps)
        self._rows.append(
            SampleRecord(
                self.device,
                self.plan.name,
                seq,
                pending.scheduled_ns,
                pending.captured_ns,
                pending.sent_ns,
                pending.size_bytes,
                pending.label,
                arrived_ns,
                reply_bytes,
                decision,
                pending.taken_ns,
                incarnation,
            )
        )

    def _note_time(self, took_ns: int) -> None:
        self.timeout.slowest_ns = max(self.timeout.slowest_ns, took_ns)

    def _arm(self, offset_ns: int | None) -> None:
        if offset_ns is not None:
            self._time.call_at(self._start_ns + offset_ns, partial(self._fire, offset_ns))

    def _fire(self, offset_ns: int | None) -> None:
        now = self._now_ns()
        if self._all_at_once and self._way.backed_up:
            # Everything is due already: what the network does not take yet stays with the sensor, or the
            # acknowledgements of decisions would queue behind it all, and the memory would hold it all.
            self._time.call_at(now + _BACKED_UP_NS, partial(self._fire, offset_ns))
            return
        for _ in range(_AGAINST_OVERRUN):
            if offset_ns is None or self._start_ns + offset_ns > now:
                break
            self._send(self._start_ns + offset_ns)
            offset_ns = next(self._offsets, None)
        self._arm(offset_ns)

    def _query(self, due_ns: int) -> None:
        if due_ns >= self._end_ns:
            return
        if self._present and (there_ns := self._there_ns(due_ns)) != due_ns:
            if there_ns is not None:
                self._time.call_at(there_ns, partial(self._query, there_ns))
            return
        for _ in range(self._query_size or 0):
            self._send(due_ns)

    def _there_ns(self, at_ns: int) -> int | None:
        """When the device is there from a time on; None where it is not any more."""
        offset_ns = at_ns - self._start_ns
        spans = [span for span in self._present if offset_ns < span[1]]
        return self._start_ns + max(offset_ns, spans[0][0]) if spans else None

    def _send(self, scheduled_ns: int, seq: int | None = None) -> None:
        """seq: of the frame, where that is known; else the next."""
        seq = self._next_seq if seq is None else seq
        self._next_seq = max(self._next_seq, seq + 1)
        self.tally.scheduled += 1
        captured_ns = self._now_ns()
        try:
            reading = self._source.capture()
        except NothingSensedError as nothing:
            pending = Pending(scheduled_ns, captured_ns, None, 0, None, refused=nothing.reason)
        else:
            pending = self._way.send(self, seq, scheduled_ns, captured_ns, reading)
        self.pending[seq] = pending
        if 2 * len(self.pending) > len(self._finished_ns):
            self._remember_more()
        if pending.size_bytes > self.timeout.largest_bytes:
            self.timeout.largest_bytes = pending.size_bytes
        if pending.refused:
            self.dropped(seq, pending.refused)
        elif pending.sent_ns is not None:
            self.tally.sent += 1

    def _remember_more(self) -> None:
        """What waits for long is sent again, and may be answered again after all of it has been decided."""
        known = self._finished_ns
        self._finished_ns = array("q", bytes(2 * 8 * len(known)))
        for seq in range(max(0, self._next_seq - len(known)), self._next_seq):
            self._finished_ns[seq % len(self._finished_ns)] = known[seq % len(known)]


def _remembered(load: Load) -> int:
    """Of how many decisions is known how they were."""
    if not isinstance(load, Fixed | Poisson | Server):
        return _REMEMBERED
    return min(_MOST_REMEMBERED, _REMEMBERED_BESIDE + int(load.rate_hz * _REMEMBERED_S))


def decided_on_device(served: Served[tuple[Stream, int]], arrived_ns: int) -> None:
    """Bring decisions that a device's own server made to the streams that asked for them."""
    for request, output in zip(served.requests, served.outputs, strict=True):
        stream, seq = request.about
        stamps = Stamps(
            request.received_ns, request.received_ns, served.started_ns, served.finished_ns, served.finished_ns
        )
        decision = Decision(
            VERSION,
            seq,
            stream.incarnation,
            stream.device,
            served.digest,
            output.tobytes(),
            len(served.requests),
            stamps,
        )
        stream.decided(decision, arrived_ns, 0)
