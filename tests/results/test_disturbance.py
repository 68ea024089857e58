"""Disturbed seconds and what they do to a verdict, on runs of 4 s with 100 samples a second of 15 ms each."""

import msgspec
import pytest

from edgebench.clock import NS_PER_MS, NS_PER_S
from edgebench.core.samples import SampleRecord
from edgebench.fabric.records import Hiccup, HostUsage
from edgebench.report import trust_view
from edgebench.report.trust_view import disturbed_lines
from edgebench.results.figures import Result, Span
from edgebench.results.host_conditions import HiccupSums
from edgebench.results.observations import Observations
from edgebench.topology.model import Load, Offline, Trace
from tests.results import factory
from tests.results.factory import at_ms, row

FIRST_SECOND = at_ms(0) // 1_000_000_000
QUIET_MS, LATE_MS = 0.2, 3.0


def rows(hops_ms: dict[int, float] | None = None, *, every_ms: int = 10) -> list[SampleRecord]:
    """Samples whose uplink took 3 ms, or what `hops_ms` says of the second in which they were due."""
    found = []
    for due_ms in range(0, 4_000, every_ms):
        uplink_ms = (hops_ms or {}).get(due_ms // 1_000, 3.0)
        found.append(row(due_ms // every_ms, due_ms, (1, uplink_ms, 2, 4, 5), label=None))
    return found


def seen(late_ms: tuple[float, ...], foreign: float = 0.6, stolen: float = 0.0) -> Observations:
    """Timers so late in each second, nine times that at most, and others that took so much throughout."""
    usage = [HostUsage(at_ms(1_000 * n + 400), 0.9, stolen, foreign, 0.5, at_ms(1_000 * n - 600)) for n in range(-1, 6)]
    sums = HiccupSums()
    for number, late in enumerate(late_ms):
        sums.add("ward-0", [Hiccup(FIRST_SECOND + number, ns(9 * late), 10 * ns(late), 10)])
    return factory.observations(lateness=sums.lateness(usage, ["ward-0"]), host_usage=usage)


def ns(late_ms: float) -> int:
    return round(late_ms * NS_PER_MS)


def result(observed: Observations, samples: list[SampleRecord] | None = None, load: Load | None = None) -> Result:
    plans = () if load is None else (factory.workload(load=load),)
    return factory.result(factory.deployment(*plans), observed, rows() if samples is None else samples)


SECOND_LATE = (QUIET_MS, LATE_MS, QUIET_MS, QUIET_MS)


def test_a_second_is_disturbed_when_timers_are_late_while_others_take_the_processor() -> None:
    found = result(seen(SECOND_LATE)).disturbance
    assert found is not None
    assert found.spans == [Span(1.0, 2.0)]
    assert (found.share, found.disturbed_s) == (0.25, 1.0)
    assert (found.mean_late_ms, found.most_late_ms, found.worst_late_ms) == (0.9, 3.0, 3.0)
    assert (found.most_hiccup_ms, found.most_hiccup_of) == (27.0, "ward-0")


def test_disturbed_seconds_in_a_row_are_one_span() -> None:
    found = result(seen((LATE_MS, QUIET_MS, LATE_MS, LATE_MS))).disturbance
    assert found is not None
    assert found.spans == [Span(0.0, 1.0), Span(2.0, 4.0)]


def test_seconds_of_several_machines_count_once_and_the_verdict_names_the_machines() -> None:
    # Second 1 of the board begins with 0.5 s of second 0 of the server still to come, and ends in second 1.
    here = seen(SECOND_LATE, foreign=0.6)
    there = [
        msgspec.structs.replace(each, machine="pi", ahead_ns=-NS_PER_S // 2)
        for each in seen((QUIET_MS, LATE_MS, LATE_MS, QUIET_MS)).lateness
    ]
    observed = msgspec.structs.replace(here, lateness=[*here.lateness, *there], machines=factory.board("pi"))
    boards = factory.placed(factory.deployment(), bed_0="pi", ward_0="pi")
    found = factory.result(boards, observed, rows({1: 40.0}))
    assert found.disturbance is not None
    assert found.disturbance.spans == [Span(0.5, 2.5)]
    assert (found.disturbance.share, found.disturbance.disturbed_s) == (0.5, 2.0)
    assert found.disturbance.machines == {"here": 0.25, "pi": 0.5}
    assert found.verdict.reasons[0].startswith("foreign work on here, pi disturbed 50% of the time")


@pytest.mark.parametrize(
    ("late_ms", "foreign"),
    [((QUIET_MS,) * 4, 0.95), (SECOND_LATE, 0.05)],
    ids=["work that only fills idle cores", "a run that holds itself up"],
)
def test_neither_others_nor_lateness_alone_disturb(late_ms: tuple[float, ...], foreign: float) -> None:
    found = result(seen(late_ms, foreign), rows({1: 60.0}))
    assert found.disturbance is not None
    assert (found.disturbance.share, found.disturbance.spans) == (0.0, [])
    assert found.workloads["death-risk"].undisturbed is None
    assert found.verdict.valid


def test_time_that_other_guests_of_the_hardware_took_is_foreign_too() -> None:
    found = result(seen(SECOND_LATE, foreign=0.06, stolen=0.06)).disturbance
    assert found is not None
    assert found.spans == [Span(1.0, 2.0)]


def test_figures_are_given_with_and_without_and_differ_too_much_for_a_verdict_of_valid() -> None:
    # 100 samples of 72 ms. One that was due before that second is decided within it, and 7 of its own after it.
    found = result(seen(SECOND_LATE), rows({1: 60.0}))
    figures = found.workloads["death-risk"]
    assert figures.latency_ms is not None
    assert (figures.latency_ms.p50, figures.latency_ms.p99) == (15.0, 72.0)
    alone = figures.undisturbed
    assert alone is not None
    assert (alone.n, alone.p50, alone.p99) == (299, 15.0, 15.0)
    assert alone.throughput_hz == round((400 - 94) / 3.005, 6)
    assert found.verdict.kinds == ["disturbance"]
    assert found.verdict.reasons == [
        (
            "death-risk: foreign work changed its figures: with and without the disturbed seconds p99 72.0 and 15.0 ms "
            "(tolerance 25%); run it again on a quiet machine"
        )
    ]


def test_disturbed_seconds_that_changed_no_figure_leave_a_run_valid() -> None:
    found = result(seen(SECOND_LATE), rows({1: 3.9}))
    assert found.disturbance is not None
    assert found.disturbance.spans
    assert found.verdict.valid


def test_a_run_of_which_more_than_a_quarter_was_disturbed_is_invalid_whatever_its_figures() -> None:
    verdict = result(seen((QUIET_MS, LATE_MS, LATE_MS, QUIET_MS))).verdict
    assert verdict.kinds == ["disturbance"]
    assert verdict.reasons == [
        (
            "foreign work disturbed 50% of the time in which samples were due (limit 25%): in the worst second the "
            "run's timers fired 3.0 ms late on average, 3.0 ms in the worst part; run it again on a quiet machine"
        )
    ]


def test_the_share_is_of_the_time_in_which_samples_were_due_however_long_the_last_was_waited_for() -> None:
    straggler = row(400, 3_999, (1, 9_000, 2, 4, 5), label=None)
    found = result(seen((QUIET_MS, LATE_MS, LATE_MS, QUIET_MS)), [*rows(), straggler])
    assert found.disturbance is not None
    assert found.disturbance.share == 0.5
    assert found.verdict.kinds[0] == "disturbance"


def test_what_is_disturbed_after_the_streams_is_no_part_of_the_share_but_of_the_figures() -> None:
    # A tenth of the samples, due in the last second, get their decisions in the one after it.
    late = [row(each.seq, 3_000 + 10 * n, (1, 1_100, 2, 4, 5)) for n, each in enumerate(rows()[300:340])]
    found = result(seen((*[QUIET_MS] * 4, LATE_MS)), [*rows()[:300], *late])
    assert found.disturbance is not None
    assert (found.disturbance.share, found.disturbance.spans[0].from_s) == (0.0, 4.0)
    assert "p99 1,112.0 and 15.0 ms" in found.verdict.reasons[0]


def test_the_disturbed_seconds_of_a_block_count_and_not_the_whole_of_it() -> None:
    usage = [HostUsage(at_ms(1_000 * n), 0.9, 0.0, 0.6, 0.5, at_ms(1_000 * (n - 1))) for n in range(1, 41)]
    sums = HiccupSums()
    for second in range(40):
        late_ms = LATE_MS if second % 10 == 3 else QUIET_MS
        sums.add("ward-0", [Hiccup(FIRST_SECOND + second, ns(late_ms), 10 * ns(late_ms), 10)])
    lateness = sums.lateness(usage, ["ward-0"], most=8)
    observed = factory.observations(lateness=lateness, host_usage=usage, ended_ns=at_ms(40_000))
    found = result(observed, [row(n, 100 * n, label=None) for n in range(400)])
    assert found.disturbance is not None
    # 4 of 40 s, in 4 of the 8 blocks of 5 s.
    assert (found.disturbance.share, found.disturbance.disturbed_s) == (0.1, 4.0)
    assert found.disturbance.spans[0] == Span(0.0, 5.0)
    assert found.verdict.valid
    assert disturbed_lines(found) == ["other work disturbed 4.0 s of the run, 10% of its streams"]


def test_where_every_sample_was_disturbed_nothing_tells_what_it_changed() -> None:
    # Samples of 2.1 s each: whatever is due in the streams is under way in a second that is disturbed.
    one_in_five = (QUIET_MS, QUIET_MS, LATE_MS, *[QUIET_MS] * 17)
    observed = msgspec.structs.replace(seen(one_in_five), ended_ns=at_ms(20_000))
    slow = [row(n, 1_000 + 50 * n, (1, 2_088, 2, 4, 5)) for n in range(20)]
    found = result(observed, slow)
    assert found.disturbance is not None
    assert found.disturbance.share == 0.05
    assert found.verdict.reasons == [
        (
            "death-risk: foreign work disturbed every one of its 20 decisions, so nothing tells by how much it changed "
            "its figures; run it again on a quiet machine"
        )
    ]
    assert "less than is tolerated" not in trust_view.verdict(found)["sentence"]


def test_an_offline_load_whose_beginning_was_disturbed_has_no_sample_left() -> None:
    at_once = [row(n, 0, (1, 10 * n, 2, 4, 5)) for n in range(400)]
    observed = seen((LATE_MS, *[QUIET_MS] * 4))
    assert "every one of its 400 decisions" in " ".join(result(observed, at_once, Offline(samples=400)).verdict.reasons)


def offline(per_second: tuple[int, ...]) -> list[SampleRecord]:
    """All due at once, of which so many are decided in each second, at even distances."""
    ends_ms = [1_000 * (second + (n + 1) / count) - 1 for second, count in enumerate(per_second) for n in range(count)]
    return [row(seq, 0, (1, end_ms - 12, 2, 4, 5)) for seq, end_ms in enumerate(ends_ms)]


def test_an_offline_load_is_judged_by_its_throughput_and_not_by_places_in_line() -> None:
    even = result(seen((QUIET_MS,) * 3 + (LATE_MS, *[QUIET_MS] * 3)), offline((100,) * 7), Offline(samples=700))
    alone = even.workloads["death-risk"].undisturbed
    assert alone is not None
    assert alone.n == 300  # those that were decided before, and so of another median
    assert even.verdict.valid
    held_up = offline((100, 100, 100, 10, 100, 100, 100))
    slower = result(seen((QUIET_MS,) * 3 + (LATE_MS, *[QUIET_MS] * 3)), held_up, Offline(samples=610))
    assert slower.verdict.kinds == ["disturbance"]
    assert "87.2 and 100.0 decisions/s (tolerance 10%)" in slower.verdict.reasons[0]


def test_a_load_that_comes_in_bursts_is_not_thought_to_have_been_slowed_down() -> None:
    bursts = [each for each in rows() if each.seq // 100 != 1 or each.seq % 10 == 0]  # 10 in the disturbed second
    assert result(seen(SECOND_LATE), bursts, Trace(file="arrivals.txt")).verdict.valid


def test_what_nobody_watched_is_not_known() -> None:
    found = result(factory.observations())
    assert found.disturbance is None
    assert found.verdict.valid


def test_seconds_before_the_streams_and_after_them_do_not_count() -> None:
    found = result(seen((QUIET_MS,) * 4 + (QUIET_MS, 9.0)))
    assert found.disturbance is not None
    assert (found.disturbance.share, found.disturbance.most_late_ms) == (0.0, QUIET_MS)
