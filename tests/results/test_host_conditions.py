from edgebench.fabric.hiccups import COMMAND
from edgebench.fabric.records import Hiccup, HostUsage, Lateness
from edgebench.results.host_conditions import HiccupSums, merged


def test_lateness_is_the_mean_over_the_parts_of_their_means() -> None:
    sums = HiccupSums()
    sums.add("ward-0", [Hiccup(7, most_ns=40, sum_ns=60, count=10)])
    sums.add("ward-0", [Hiccup(7, most_ns=90, sum_ns=140, count=10)])  # the rest of that second: a mean of 10
    sums.add("bed-0", [Hiccup(7, most_ns=50, sum_ns=100, count=50), Hiccup(8, 4, 40, 20)])  # a mean of 2
    sums.add(COMMAND, [Hiccup(7, most_ns=900, sum_ns=9_000, count=10)])  # no part of the run
    assert sums.lateness() == [Lateness(7, 1, 6, 90, "ward-0"), Lateness(8, 1, 2, 4, "bed-0")]


def test_the_seconds_of_a_long_run_are_merged_each_to_the_worst_of_them() -> None:
    sums = HiccupSums()
    sums.add("bed-0", [Hiccup(second, most_ns=second, sum_ns=100 - second, count=1) for second in range(10, 17)])
    assert sums.lateness(most=3) == [
        Lateness(10, 3, 90, 12, "bed-0"),
        Lateness(13, 3, 87, 15, "bed-0"),
        Lateness(16, 3, 84, 16, "bed-0"),
    ]


def test_without_a_hiccup_nothing_is_known() -> None:
    assert HiccupSums().lateness() == []


def test_the_use_of_the_host_in_a_long_run_is_merged_to_means() -> None:
    usage = [HostUsage(at, 0.1 * at, 0.0, 0.2 * at, None, at - 1) for at in (1, 2, 3)]
    assert merged(usage, most=3) == usage
    first, last = merged(usage, most=2)
    assert (first.since_ns, first.at_ns, round(first.busy, 6), first.foreign) == (0, 2, 0.15, 0.30000000000000004)
    assert (last.since_ns, last.at_ns, last.pressure) == (2, 3, None)
