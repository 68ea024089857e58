"""Disturbed seconds and what they do to a verdict, on runs of 4 s with 100 samples a second of 15 ms each."""

import pytest

from edgebench.clock import NS_PER_MS
from edgebench.core.samples import SampleRecord
from edgebench.fabric.records import HostUsage, Lateness, Observations
from edgebench.results.figures import Result, Span
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
    """Timers so late in each second, and others that took these shares of the processor throughout."""
    lateness = [
        Lateness(FIRST_SECOND + number, 1, round(late * NS_PER_MS), round(9 * late * NS_PER_MS), "ward-0")
        for number, late in enumerate(late_ms)
    ]
    usage = [HostUsage(at_ms(1_000 * n + 400), 0.9, stolen, foreign, 0.5, at_ms(1_000 * n - 600)) for n in range(-1, 6)]
    return factory.observations(lateness=lateness, host_usage=usage)


def result(observed: Observations, samples: list[SampleRecord] | None = None) -> Result:
    return factory.result(factory.deployment(), observed, rows() if samples is None else samples)


SECOND_LATE = (QUIET_MS, LATE_MS, QUIET_MS, QUIET_MS)


def test_a_second_is_disturbed_when_timers_are_late_while_others_take_the_processor() -> None:
    found = result(seen(SECOND_LATE)).disturbance
    assert found is not None
    assert found.spans == [Span(1.0, 2.0)]
    assert found.share == round(1 / 4.005, 4)  # the last decision came 5 ms after the streams
    assert (found.mean_late_ms, found.most_late_ms) == (0.9, 3.0)
    assert (found.most_hiccup_ms, found.most_hiccup_of) == (27.0, "ward-0")


def test_disturbed_seconds_in_a_row_are_one_span() -> None:
    found = result(seen((LATE_MS, QUIET_MS, LATE_MS, LATE_MS))).disturbance
    assert found is not None
    assert found.spans == [Span(0.0, 1.0), Span(2.0, 4.0)]


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
            "run's timers fired 3.0 ms late on average; run it again on a quiet machine"
        )
    ]


def test_throughput_that_fell_with_the_disturbance_makes_a_run_invalid() -> None:
    # As a closed loop would: 100 decisions in each second but the disturbed one, in which there are 10.
    kept = [each for each in rows() if each.seq // 100 != 1 or each.seq % 10 == 0]
    verdict = result(seen(SECOND_LATE), kept).verdict
    assert verdict.kinds == ["disturbance"]
    assert "77.4 and 99.5 decisions/s (tolerance 10%)" in verdict.reasons[0]


def test_arrivals_at_random_may_differ_by_as_much_as_chance_explains() -> None:
    # 16 samples, 1 of them in the disturbed quarter: 3 · √((1/3) / 16) = 43 %.
    kept = [each for each in rows(every_ms=200) if each.seq not in (6, 7, 8, 9)]
    assert result(seen(SECOND_LATE), kept).verdict.valid


def test_what_nobody_watched_is_not_known() -> None:
    found = result(factory.observations())
    assert found.disturbance is None
    assert found.verdict.valid


def test_seconds_before_the_streams_and_after_them_do_not_count() -> None:
    observed = seen((QUIET_MS,) * 4)
    outside = [Lateness(FIRST_SECOND + number, 1, 9 * NS_PER_MS, 9 * NS_PER_MS, "bed-0") for number in (-1, 5)]
    found = result(factory.observations(lateness=[*observed.lateness, *outside], host_usage=observed.host_usage))
    assert found.disturbance is not None
    assert (found.disturbance.share, found.disturbance.most_late_ms) == (0.0, QUIET_MS)
