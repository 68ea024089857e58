"""A device's stream in virtual time: 2 ms of link each way, 1 ms a sample on it, 1 ms a decision, unless said."""

from __future__ import annotations

import msgspec
import numpy as np

from edgebench.core.device import Device
from edgebench.core.pending import EarlierLives, Pending
from edgebench.core.samples import VERSION, Decision, Stamps
from edgebench.core.stream import Stream
from edgebench.core.tallies import Tally
from edgebench.core.timeouts import Expected
from edgebench.topology.model import After, Batch, Fixed, Load, MultiStream, Offline, SingleStream, Trace
from tests.core.ward import Bed, Numbers, Payloads, ms, plan

S = 1_000_000_000


def bed_with(
    load: Load,
    service_ms: float = 1.0,
    expected: Expected | None = None,
    *,
    keep: bool = False,
    incarnation: int = 0,
    earlier: EarlierLives | None = None,
) -> Bed:
    one_by_one = plan(load=load, batch=Batch(max_batch=1))
    return Bed(one_by_one, lambda _size: service_ms, expected, keep=keep, incarnation=incarnation, earlier=earlier)


def decision(seq: int, decider: str = "ward", incarnation: int = 0) -> Decision:
    return Decision(VERSION, seq, incarnation, decider, "d" * 64, b"", 1, Stamps(1, 1, 1, 1, 1))


def test_a_sample_is_written_down_with_every_stamp_of_its_way() -> None:
    bed = bed_with(Trace(file=""))
    bed.begin(trace_s=[0.1])
    bed.time.run()
    (row,) = bed.rows
    assert (row.node, row.workload, row.seq, row.size_bytes, row.reply_bytes) == ("bed", "w", 0, 1_000, 100)
    assert (row.scheduled_ns, row.captured_ns, row.sent_ns, row.arrived_ns) == (ms(100), ms(100), ms(100), ms(106))
    assert row.decision is not None
    assert row.decision.stamps == Stamps(ms(103), ms(103), ms(103), ms(104), ms(104))
    assert row.label == np.float32(0).tobytes()
    counts = (bed.tally.scheduled, bed.tally.sent, bed.tally.decided, bed.tally.duplicated, bed.tally.reordered)
    assert counts == (1, 1, 1, 0, 0)


def test_an_open_loop_keeps_to_its_schedule_however_slow_the_decider_is() -> None:
    bed = bed_with(Fixed(rate_hz=10.0), service_ms=500.0)
    bed.begin(duration_s=1.0)
    bed.time.run(1 * S)
    assert bed.tally.scheduled == 10
    assert bed.tally.decided == 1
    bed.time.run()
    gaps = np.diff([row.scheduled_ns for row in bed.rows])
    assert set(gaps) <= {ms(100) - 1, ms(100), ms(100) + 1}


def test_a_single_stream_sends_when_the_last_is_decided() -> None:
    bed = bed_with(SingleStream(), service_ms=5.0)
    bed.begin(duration_s=0.1)
    bed.time.run()
    # 3 ms there, 5 ms decided, 2 ms back.
    assert [row.scheduled_ns for row in bed.rows] == [ms(10 * number) for number in range(10)]


def test_a_multi_stream_sends_a_query_when_all_of_the_last_is_decided() -> None:
    bed = bed_with(MultiStream(samples=3))
    bed.begin(duration_s=0.016)
    bed.time.run()
    # The third of a query leaves after 3 ms, arrives 2 ms later, is decided in 1 ms and back in 2.
    assert [row.scheduled_ns for row in bed.rows] == [0, 0, 0, ms(8), ms(8), ms(8)]


def test_an_offline_load_waits_with_the_sensor_while_its_way_is_backed_up() -> None:
    bed = bed_with(Offline(samples=100))
    bed.way.backed_up = True
    bed.begin()
    bed.time.run(ms(50))
    assert bed.tally.scheduled == 0
    bed.way.backed_up = False
    bed.time.run(ms(51))
    assert bed.tally.scheduled == 100  # in two turns, since one sends 64 at most
    bed.time.run()
    assert len(bed.rows) == 100


def test_a_device_that_was_started_again_goes_on_with_its_schedule_where_that_is_by_then() -> None:
    bed = bed_with(Trace(file=""), incarnation=2)
    bed.time.run(ms(250))
    bed.begin(trace_s=[0.0, 0.1, 0.2, 0.3, 0.4])
    bed.time.run()
    assert [(row.seq, row.incarnation, row.scheduled_ns) for row in bed.rows] == [(3, 2, ms(300)), (4, 2, ms(400))]
    assert (bed.tally.scheduled, bed.ward.tally.duplicated, bed.ward.tally.rejected) == (2, 0, {})


def test_a_closed_loop_of_a_device_that_was_started_again_begins_then() -> None:
    bed = bed_with(SingleStream(), service_ms=5.0, incarnation=1)
    bed.time.run(ms(500))
    bed.begin(duration_s=0.515)
    bed.time.run()
    assert [(row.seq, row.scheduled_ns) for row in bed.rows] == [(0, ms(500)), (1, ms(510))]


def test_a_closed_loop_goes_on_while_its_device_is_there() -> None:
    bed = bed_with(SingleStream(), service_ms=5.0)
    there = ((ms(100), ms(115)), (ms(300), ms(305)))
    bed.stream.begin(0, seed=1, duration_s=1.0, trace_s=[], present=there)
    bed.time.run()
    # Each is decided in 10 ms: a query that is due when the device has gone waits until it is there again.
    assert [(row.seq, row.scheduled_ns) for row in bed.rows] == [(0, ms(100)), (1, ms(110)), (2, ms(300))]


def test_a_device_that_leaves_and_comes_back_goes_on_and_knows_late_decisions() -> None:
    bed = bed_with(SingleStream(), service_ms=250.0)
    there = ((0, ms(100)), (ms(300), ms(310)))
    bed.stream.begin(0, seed=1, duration_s=1.0, trace_s=[], present=there)
    bed.time.call_at(ms(200), lambda: bed.stream.leave(ms(200)))
    bed.time.run()
    # The first is decided 55 ms after it was given up, and the next query begins with the next span.
    assert [(row.seq, row.scheduled_ns, row.arrived_ns) for row in bed.rows] == [
        (0, 0, None),
        (1, ms(300), ms(555)),
    ]
    assert (bed.tally.duplicated, bed.tally.unexpected, bed.tally.decided) == (0, 0, 1)


def test_who_leaves_waits_for_what_a_cut_keeps_away() -> None:
    stream = bed_with(Trace(file=""), expected=Expected(back_s=60.0)).stream
    stream.begin(0, seed=1, duration_s=100.0, trace_s=[])
    assert stream.leaves_by_ns(ms(20_000)) == 60 * S + stream.timeout.quiet_ns
    assert stream.leaves_by_ns(ms(70_000)) == 70 * S + stream.timeout.quiet_ns


def test_a_decision_on_a_sample_of_an_earlier_life_is_counted_apart() -> None:
    bed = bed_with(Trace(file=""), incarnation=1)
    bed.begin(trace_s=[0.5])
    bed.time.run(ms(501))
    bed.stream.decided(decision(0, incarnation=0), ms(502), 100)
    bed.stream.decided(decision(0, incarnation=2), ms(502), 100)
    assert (bed.tally.decided, bed.tally.outlived, bed.tally.unexpected) == (0, 1, 1)
    bed.time.run()
    assert [(row.seq, row.incarnation) for row in bed.rows] == [(0, 1)]


def test_a_next_life_goes_on_with_what_the_last_one_kept() -> None:
    kept = {(0, 1): Pending(ms(10), ms(11), ms(12), 1_000, b"l", None, Payloads.of(1))}
    bed = bed_with(Trace(file=""), incarnation=1, earlier=EarlierLives(kept, sensed=2, uncounted=1, accounted=2))
    bed.time.run(ms(250))
    bed.begin(trace_s=[0.0, 0.01, 0.1, 0.2, 0.3])
    assert (bed.tally.scheduled, bed.tally.missed) == (1, 2)  # those of 0.1 and 0.2 s
    bed.stream.send_again(moved=False)
    bed.time.run()
    assert bed.way.moved is False
    rows = [(row.incarnation, row.seq, row.scheduled_ns, row.arrived_ns is not None) for row in bed.rows]
    assert rows == [(0, 1, ms(10), True), (1, 4, ms(300), True)]
    again = msgspec.structs.replace(decision(1), stamps=Stamps(1, 1, 1, bed.rows[0].decision.stamps.finished_ns, 1))  # type: ignore[union-attr]
    bed.stream.decided(again, ms(400), 100)
    bed.stream.decided(decision(1), ms(400), 100)
    assert (bed.tally.repeated, bed.tally.duplicated, bed.tally.outlived) == (1, 1, 0)


def test_a_life_that_begins_when_the_streams_are_over_waits_as_long_as_any_for_what_the_last_one_kept() -> None:
    kept = {(0, 0): Pending(ms(10), ms(11), ms(12), 1_000, b"l", None, Payloads.of(0))}
    bed = bed_with(Trace(file=""), incarnation=1, earlier=EarlierLives(kept, sensed=1, uncounted=0, accounted=1))
    bed.time.run(50 * S)
    bed.begin(trace_s=[0.01], duration_s=1.0)
    assert bed.stream.waits_until_ns(0) == 50 * S + bed.stream.timeout.quiet_ns


def test_where_samples_survive_whoever_takes_them_its_start_is_waited_for_at_the_end() -> None:
    for keep, waits_s in ((False, 5), (True, 30)):
        bed = bed_with(Trace(file=""), keep=keep)
        bed.begin(trace_s=[0.1, 0.9], duration_s=1.0)
        bed.time.run(ms(905))  # the first is decided, the second is not yet
        assert bed.stream.waits_until_ns(bed.stream.last_arrival_ns) == (1 + waits_s) * S


def test_an_offline_load_goes_on_with_what_was_not_sensed_yet() -> None:
    bed = bed_with(Offline(samples=5), incarnation=1, earlier=EarlierLives(sensed=3, accounted=3))
    bed.time.run(ms(100))
    bed.begin()
    bed.time.run()
    assert [(row.seq, row.incarnation) for row in bed.rows] == [(3, 1), (4, 1)]
    assert bed.tally.missed == 0


def test_what_is_kept_and_never_decided_is_written_down_as_lost() -> None:
    kept = {(0, 1): Pending(ms(10), ms(11), ms(12), 1_000, b"l", None, Payloads.of(1))}
    bed = bed_with(Trace(file=""), incarnation=1, earlier=EarlierLives(kept, sensed=2))
    bed.begin(trace_s=[])
    bed.time.run(1 * S)
    assert bed.stream.waits_until_ns(0) is not None
    bed.stream.give_up()
    assert [(row.incarnation, row.seq, row.arrived_ns) for row in bed.rows] == [(0, 1, None)]


def test_where_nothing_comes_for_long_what_is_kept_is_sent_again() -> None:
    bed = bed_with(Trace(file=""), keep=True)
    bed.up.cut()
    bed.begin(duration_s=60.0, trace_s=[1.0])
    bed.time.run(2 * S)
    bed.up.mend()
    bed.stream.send_again_if_silent(10 * S)
    assert bed.way.moved is None  # while none has ever come, the first is waited for 30 s
    bed.stream.send_again_if_silent(17 * S)
    bed.time.run()
    assert [row.seq for row in bed.rows if row.arrived_ns is not None] == [0]


def test_a_decision_that_comes_again_as_it_was_is_told_from_another_on_the_same_sample() -> None:
    bed = bed_with(Trace(file=""))
    bed.begin(trace_s=[0.0])
    bed.time.run()
    first = bed.rows[0].decision
    assert first is not None
    bed.stream.decided(first, ms(50), 100)
    bed.stream.decided(decision(0), ms(51), 100)
    assert (bed.tally.repeated, bed.tally.duplicated, bed.tally.decided) == (1, 1, 1)


def test_what_a_broker_brings_again_of_its_last_10_s_is_known_at_any_rate() -> None:
    for rate_hz, duration_s in ((2.0, 30.0), (500.0, 11.0)):
        bed = bed_with(Fixed(rate_hz=rate_hz), service_ms=0.1)
        bed.begin(duration_s=duration_s)
        bed.time.run()
        again = bed.rows[-round(10 * rate_hz)].decision
        assert again is not None
        bed.stream.decided(again, bed.time.now_ns(), 100)
        assert (bed.tally.decided, bed.tally.repeated, bed.tally.duplicated) == (rate_hz * duration_s, 1, 0)


def test_what_waited_for_a_minute_is_known_when_it_is_answered_again_after_all_of_it() -> None:
    bed = bed_with(Fixed(rate_hz=10.0), keep=True)
    bed.down.cut()
    bed.begin(duration_s=60.0)
    bed.time.run(60 * S)
    answers = [msgspec.structs.replace(decision(seq), stamps=Stamps(1, 1, 1, 1 + seq, 1)) for seq in range(600)]
    for answer in (*answers, *answers):
        bed.stream.decided(answer, bed.time.now_ns(), 100)
    assert (bed.tally.decided, bed.tally.repeated, bed.tally.duplicated) == (600, 600, 0)


def test_a_decision_that_comes_again_or_that_nobody_asked_for_is_counted_apart() -> None:
    bed = bed_with(Trace(file=""))
    bed.begin(trace_s=[0.0])
    bed.time.run()
    bed.stream.decided(decision(0), ms(50), 100)
    bed.stream.decided(decision(7), ms(50), 100)
    assert (bed.tally.decided, bed.tally.duplicated, bed.tally.unexpected) == (1, 1, 1)
    assert len(bed.rows) == 1


def test_decisions_of_one_decider_that_overtake_each_other_are_reordered() -> None:
    bed = bed_with(Trace(file=""))
    bed.begin(trace_s=[0.0, 0.0, 0.0])
    bed.time.run(0)
    for seq, decider in ((2, "cloud"), (0, "ward"), (1, "cloud")):
        bed.stream.decided(decision(seq, decider), ms(1), 100)
    assert bed.tally.reordered == 1


def test_a_sample_that_cannot_set_out_is_lost_and_not_waited_for() -> None:
    bed = bed_with(Trace(file=""))
    bed.up.cut()
    bed.begin(duration_s=1.0, trace_s=[0.5])
    bed.time.run(2 * S)
    assert bed.tally.dropped == {"not-connected": 1}
    assert bed.stream.waits_until_ns(0) is None
    bed.stream.give_up()
    (row,) = bed.rows
    assert (row.seq, row.arrived_ns, row.decision) == (0, None, None)


def test_what_will_never_be_decided_is_written_down_at_once_and_kept_no_longer() -> None:
    bed = bed_with(Fixed(rate_hz=10.0))
    bed.up.cut()
    bed.begin(duration_s=100.0)
    bed.time.run(90 * S)
    assert not bed.stream.pending
    assert [row.seq for row in bed.rows] == list(range(900))
    bed.up.mend()
    bed.down.cut()
    bed.time.run(91 * S)
    assert len(bed.stream.pending) == 10
    for seq in list(bed.stream.pending):
        bed.stream.dropped(seq, "queue-full")
    assert not bed.stream.pending
    assert bed.tally.dropped == {"not-connected": 900, "queue-full": 10}
    bed.stream.give_up()
    assert [row.seq for row in bed.rows] == list(range(910))


def test_what_is_undecided_at_the_end_is_waited_for_twice_as_long_as_decisions_took() -> None:
    bed = bed_with(Trace(file=""), service_ms=12_000.0)
    bed.begin(duration_s=30.0, trace_s=[0.0, 13.0, 29.0])
    bed.time.run(30 * S)
    assert bed.tally.decided == 2
    last_ns = bed.stream.last_arrival_ns
    until_ns = bed.stream.waits_until_ns(last_ns)
    assert until_ns == 30 * S + 2 * (12 * S + ms(5))
    bed.time.run()
    assert bed.tally.decided == 3
    assert bed.stream.last_arrival_ns < until_ns


def test_while_no_decision_has_ever_come_the_first_is_waited_for_longer() -> None:
    bed = bed_with(Trace(file=""), service_ms=12_000.0)
    bed.begin(duration_s=1.0, trace_s=[0.0])
    bed.time.run(1 * S)
    assert bed.stream.waits_until_ns(0) == 31 * S
    bed.time.run()
    assert bed.tally.decided == 1


def test_a_fast_system_is_given_up_after_five_quiet_seconds() -> None:
    bed = bed_with(Trace(file=""))
    bed.begin(duration_s=1.0, trace_s=[0.0, 0.9])
    bed.time.run(ms(800))
    bed.down.cut()
    bed.time.run(1 * S)
    assert bed.stream.waits_until_ns(bed.stream.last_arrival_ns) == 6 * S


def test_no_wait_is_longer_than_what_the_cloud_waits() -> None:
    bed = bed_with(Trace(file=""), expected=Expected(fixed_s=1_000.0))
    bed.begin(duration_s=1.0, trace_s=[0.0])
    bed.time.run(0)
    assert bed.stream.waits_until_ns(0) == 121 * S
    # Not even where decisions go on coming one by one.
    assert bed.stream.waits_until_ns(100 * S) == 121 * S


def test_the_links_the_deadline_and_a_link_that_comes_back_are_waited_for() -> None:
    slow = bed_with(Trace(file=""), expected=Expected(fixed_s=2.0, s_per_byte=0.02))
    slow.begin(duration_s=1.0, trace_s=[0.0, 0.999])
    slow.time.run(1 * S)
    assert slow.stream.waits_until_ns(0) == 1 * S + 2 * 22 * S  # 2 s, and 20 s for the 1,000 bytes
    useful = bed_with(Trace(file=""), expected=Expected(at_least_s=9.0, back_s=20.0))
    useful.begin(duration_s=1.0, trace_s=[0.0, 0.999])
    useful.time.run(1 * S)
    assert useful.stream.waits_until_ns(0) == 29 * S


def test_a_closed_loop_gives_a_query_up_and_learns_from_its_late_decision() -> None:
    bed = bed_with(SingleStream(), service_ms=40_000.0)
    bed.begin(duration_s=200.0)
    for second in range(1, 200):
        bed.time.run(second * S)
        bed.stream.give_up_query(second * S)
    # 30 s while none has ever come, so the first is given up at 31 s; its decision comes at 40 s, and from then on
    # 80 s are allowed: the second waits for the first and is decided at 80 s, the others at 120 s and 160 s.
    lost = [row for row in bed.rows if row.arrived_ns is None]
    decided = [row for row in bed.rows if row.arrived_ns is not None]
    assert [row.seq for row in lost] == [0]
    assert [round((row.arrived_ns or 0) / S) for row in decided] == [80, 120, 160]
    assert bed.tally.duplicated == 0


def test_a_workload_that_follows_others_sends_when_the_last_of_them_has_decided_the_frame() -> None:
    bed = bed_with(Trace(file=""))
    other = Stream("bed", plan(name="o", load=Trace(file="")), Numbers(), bed.way, Tally(), bed.time, [])
    after = Stream("bed", plan(name="a", load=After(workloads=("w", "o"))), Numbers(), bed.way, Tally(), bed.time, [])
    for stream in (bed.stream, other):
        stream.followers.append(after)
    after.begin(0, seed=1, duration_s=1.0, trace_s=[])
    bed.begin(trace_s=[0.0, 0.0])
    bed.time.run(0)
    bed.stream.decided(decision(1), ms(5), 0)
    assert not after.pending
    other.decided(decision(1), ms(7), 0)  # it never sent one: nobody follows that
    assert not after.pending
    other.begin(0, seed=1, duration_s=1.0, trace_s=[0.0, 0.0])
    bed.time.run(ms(1))
    other.decided(decision(1), ms(8), 0)
    assert {seq: pending.scheduled_ns for seq, pending in after.pending.items()} == {1: ms(8)}


def test_a_device_that_moves_takes_its_undecided_samples_along() -> None:
    bed = bed_with(Trace(file=""), keep=True)
    device = Device("bed", "ward")
    device.streams.append(bed.stream)
    bed.begin(trace_s=[0.001, 0.010])
    bed.time.run(ms(2))
    assert device.leave("other", ms(2)) is None
    assert device.moving
    bed.down.cut()  # nobody hears what the old site decides
    bed.way.held = True
    bed.time.run(ms(20))
    bed.down.mend()
    bed.way.held = False
    moved = device.is_up(ms(20))
    assert moved is not None
    assert msgspec.structs.astuple(moved) == ("bed", "ward", "other", ms(2), ms(20), 1)
    assert device.sites == ["ward", "other"]
    bed.time.run()
    # The first is known at the ward already (a real other site would not know it), the second was held back.
    assert [row.seq for row in bed.rows] == [1]
    assert bed.ward.tally.duplicated == 1


def test_a_move_that_never_comes_to_its_end_is_written_down_as_such() -> None:
    device = Device("bed", "ward")
    device.leave("other", 5)
    unfinished = device.leave("third", 9)
    assert unfinished is not None
    assert (unfinished.to, unfinished.up_ns) == ("other", None)
    last = device.give_up()
    assert last is not None
    assert (last.left, last.to, last.up_ns) == ("other", "third", None)
    assert not device.moving


def test_a_closed_loop_goes_on_at_once_where_none_of_a_query_can_be_decided() -> None:
    bed = bed_with(MultiStream(samples=2))
    bed.up.cut()
    bed.begin(duration_s=60.0)
    bed.time.run(1 * S)
    assert bed.tally.dropped == {"not-connected": 2}
    bed.up.mend()
    bed.stream.give_up_query(1 * S)
    bed.time.run(1 * S + ms(8))
    assert [row.seq for row in bed.rows if row.arrived_ns is None] == [0, 1]
    assert bed.tally.decided == 2


def test_a_closed_loop_ends_when_its_way_is_cut_for_good() -> None:
    bed = bed_with(SingleStream(), expected=Expected(cut_s={"bed": 5.0}), service_ms=100_000.0)
    bed.begin(duration_s=60.0)
    for second in range(1, 61):
        bed.time.run(second * S)
        bed.stream.give_up_query(second * S)
    assert bed.tally.scheduled == 1
    assert [row.seq for row in bed.rows] == [0]
    assert not bed.stream.pending
    bed.time.run()
    assert bed.tally.duplicated == 0  # one that has slipped through is too late


def test_what_is_undecided_at_the_end_is_waited_for_no_longer_than_its_way_stands() -> None:
    bed = bed_with(Trace(file=""), service_ms=100_000.0, expected=Expected(cut_s={"bed": 9.5}))
    bed.begin(duration_s=10.0, trace_s=[9.0])
    bed.time.run(10 * S)
    assert bed.stream.waits_until_ns(0) == 10.5 * S
    other = bed_with(Trace(file=""), service_ms=100_000.0, expected=Expected(cut_s={"chair": 9.5}))
    other.begin(duration_s=10.0, trace_s=[9.0])
    other.time.run(10 * S)
    assert other.stream.waits_until_ns(0) == 40 * S
