import pytest

from edgebench.clock import NS_PER_MS, NS_PER_S
from edgebench.fabric.records import Hiccup, HostUsage, Usage
from edgebench.results.host_conditions import HiccupSums, foreign_to_all, mean_share, merged, thinned
from edgebench.results.observations import Lateness


def busy(*foreign: float, stolen: float = 0.0) -> list[HostUsage]:
    """What others took, second by second."""
    return [HostUsage((n + 1) * NS_PER_S, 1.0, stolen, share, None, n * NS_PER_S) for n, share in enumerate(foreign)]


def late(second: int, ms: float) -> Hiccup:
    """A timer that was always late by so much."""
    return Hiccup(second, round(ms * NS_PER_MS), round(10 * ms * NS_PER_MS), 10)


def disturbed(sums: HiccupSums, usage: list[HostUsage], passed: tuple[str, ...] = ()) -> list[int]:
    return [each.second for each in sums.lateness(usage, passed) if each.disturbed]


def test_lateness_is_the_mean_over_the_parts_of_their_means() -> None:
    sums = HiccupSums()
    sums.add("ward-0", [Hiccup(7, most_ns=40, sum_ns=60, count=10)])
    sums.add("ward-0", [Hiccup(7, most_ns=90, sum_ns=140, count=10)])  # the rest of that second: a mean of 10
    sums.add("bed-0", [Hiccup(7, most_ns=50, sum_ns=100, count=50), Hiccup(8, 4, 40, 20)])  # a mean of 2
    assert sums.lateness([], ["ward-0", "bed-0"]) == [
        Lateness(7, 1, 6, 90, "ward-0", worst_ns=10),
        Lateness(8, 1, 2, 4, "bed-0", worst_ns=2),
    ]


def test_one_part_that_samples_pass_is_enough_where_it_is_held_up_for_long() -> None:
    # Forty that idle and one that decides for all: 20 ms and 40 times 0.2 are 0.7 ms on average.
    sums = HiccupSums()
    for second, of_the_edge in enumerate((20.0, 0.2, 4.9)):
        sums.add("ward-0", [late(second, of_the_edge)])
        for number in range(40):
            sums.add(f"bed-{number}", [late(second, 0.2)])
    assert disturbed(sums, busy(0.6, 0.6, 0.6), ("ward-0",)) == [0]
    assert disturbed(sums, busy(0.05, 0.6, 0.6), ("ward-0",)) == []
    assert disturbed(sums, busy(0.6, 0.6, 0.6), ("bed-0",)) == []  # no sample passes the one that is late


@pytest.mark.parametrize(("share", "stolen", "expected"), [(0.06, 0.0, []), (0.06, 0.06, [0]), (0.1, 0.0, [0])])
def test_others_have_to_take_a_tenth_with_what_was_stolen(share: float, stolen: float, expected: list[int]) -> None:
    sums = HiccupSums()
    sums.add("bed-0", [late(0, 1.0)])
    assert disturbed(sums, busy(share, stolen=stolen)) == expected


def test_what_others_took_in_a_second_is_by_time_of_the_samples_that_overlap_it() -> None:
    # Of second 1: 0.25 s of 0.0 and 0.75 s of 0.16 are 0.12; of second 2: 0.25 s of 0.16 and 0.75 s of 0.04 are 0.07.
    ends = ((0.25, 0.0), (1.25, 0.0), (2.25, 0.16), (3.25, 0.04))
    usage = [
        HostUsage(round(to_s * NS_PER_S), 1.0, 0.0, share, None, round((to_s - 1) * NS_PER_S)) for to_s, share in ends
    ]
    sums = HiccupSums()
    sums.add("bed-0", [late(second, 2.0) for second in range(4)])
    assert disturbed(sums, usage) == [1]


def test_a_long_run_is_merged_to_the_worst_of_neighbours_and_the_number_of_disturbed_seconds() -> None:
    sums = HiccupSums()
    sums.add("bed-0", [late(second, 3.0 if second in (1, 2, 6) else 0.5) for second in range(7)])
    found = sums.lateness(busy(*[0.5] * 7), ["bed-0"], most=3)
    assert [(each.second, each.seconds, each.mean_ns // 1_000, each.disturbed) for each in found] == [
        (0, 3, 3_000, 2),
        (3, 3, 500, 0),
        (6, 3, 3_000, 1),
    ]
    assert [each.worst_ns // 1_000 for each in found] == [3_000, 500, 3_000]


def test_without_a_hiccup_nothing_is_known() -> None:
    assert HiccupSums().lateness(busy(0.5), []) == []


def test_the_use_of_the_host_in_a_long_run_is_merged_to_means() -> None:
    usage = [HostUsage(at, 0.1 * at, 0.0, 0.2 * at, None, at - 1) for at in (1, 2, 3)]
    assert merged(usage, most=3) == usage
    first, last = merged(usage, most=2)
    assert (first.since_ns, first.at_ns, round(first.busy, 6), first.foreign) == (0, 2, 0.15, 0.30000000000000004)
    assert (last.since_ns, last.at_ns, last.pressure) == (2, 3, None)


def test_a_share_counts_by_the_time_that_it_is_of() -> None:
    # 3 s of 0.1 and 0.1 s of 0.72; one of which it is not known.
    usage = [HostUsage(at, 0.0, 0.0, None, None, since) for since, at in ((0, 3_000), (3_000, 3_100), (3_100, 9_000))]
    assert mean_share(usage, [0.1, 0.72, None]) == pytest.approx((0.3 + 0.072) / 3.1)
    assert mean_share(usage, [None, None, None]) is None


def sample(at_s: float, foreign: float | None, own: float | None) -> HostUsage:
    """Of the second before."""
    return HostUsage(round(at_s * NS_PER_S), 1.0, 0.0, foreign, None, round((at_s - 1) * NS_PER_S), own)


def test_the_parts_on_a_machine_of_the_same_computer_are_not_foreign() -> None:
    # Second 2: parts here 0.2, there 0.5, and somebody else's work 0.1. Second 1: nothing ran there yet.
    usage = {
        "here": [sample(1, 0.3, 0.2), sample(2, 0.6, 0.2), sample(3, 0.4, 0.1)],
        "pi": [sample(2, 0.3, 0.5), sample(3, 0.1, 0.4)],
    }
    found = foreign_to_all(usage)
    assert found["here"] == pytest.approx([0.3, 0.1, 0.0])
    assert found["pi"] == pytest.approx([0.1, 0.0])


def test_what_others_used_is_by_time_where_machines_do_not_look_in_the_same_moment() -> None:
    # Of second 2 here, 0.75 s of 0.4 and 0.25 s of 0.8 are 0.5.
    usage = {"here": [sample(2, 0.6, 0.1)], "pi": [sample(1.75, 0.1, 0.4), sample(2.75, 0.1, 0.8)]}
    assert foreign_to_all(usage)["here"] == pytest.approx([0.1])


def test_of_a_time_in_which_a_part_on_either_machine_ended_nobody_knows_what_was_foreign() -> None:
    usage = {"here": [sample(1, None, None), sample(2, 0.3, 0.1)], "pi": [sample(1, 0.3, 0.1), sample(2, 0.2, 0.2)]}
    assert foreign_to_all(usage) == {"here": [None, pytest.approx(0.1)], "pi": [None, pytest.approx(0.1)]}


def test_the_use_of_a_process_is_thinned_to_its_ends_and_peaks() -> None:
    used = [Usage(n * NS_PER_S, n / 2, 100 + (n == 501)) for n in range(1_001)]
    few = thinned(used, most=101)
    assert len(few) == 101
    assert (few[0], few[1], few[-1]) == (used[0], used[10], used[-1])
    assert [each.at_ns // NS_PER_S for each in few if each.rss_bytes == 101] == [510]
    assert thinned(used[:101], most=101) == used[:101]
    assert thinned([], most=101) == []
