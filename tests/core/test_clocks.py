"""Two clocks compared: what is stated of them is true, whatever the network does."""

from __future__ import annotations

import itertools

import pytest

from edgebench.clock import NS_PER_MS, NS_PER_S
from edgebench.core.clocks import ClockComparison, Exchange, Offset, quickest
from edgebench.seeds import rng_for
from tests.core.other_clocks import AHEAD_NS, Delay, MachineClock, exchanges, lan, slow, wifi

NETWORKS = [(lan, lan), (wifi, wifi), (slow, lan), (lan, slow)]


def known(clock: ClockComparison, own_ns: int) -> Offset:
    found = clock.at(own_ns)
    assert found is not None
    return found


def test_the_offset_is_known_to_half_the_round_trip() -> None:
    # 500 ns away, of which the other had it for 100: it is ahead by 49,900 to 50,300 ns.
    clock = ClockComparison()
    clock.add(1_000, 51_300, 51_400, 1_500)
    found = known(clock, 1_250)
    assert found.offset_ns == 50_100
    assert 200 <= found.bound_ns <= 203


def test_nothing_is_known_before_the_first_exchange() -> None:
    assert ClockComparison().at(5) is None
    assert ClockComparison().own_at(5) is None


@pytest.mark.parametrize(("there", "back"), NETWORKS)
@pytest.mark.parametrize("ppm", [-200.0, -20.0, 0.0, 200.0])
def test_the_truth_is_always_within_the_bound(there: Delay, back: Delay, ppm: float) -> None:
    machine = MachineClock(AHEAD_NS, ppm)
    rng = rng_for(7, "clocks", there.__name__, back.__name__, str(ppm))
    clock = ClockComparison()
    found = exchanges(machine, rng, there=there, back=back)
    for each, later in itertools.pairwise(found):
        clock.add(each.t0_ns, each.t1_ns, each.t2_ns, each.t3_ns)
        for server_ns in (each.t2_ns, (each.t2_ns + later.t1_ns) // 2, later.t1_ns):
            own_ns = machine.own_ns(server_ns)
            told = known(clock, own_ns)
            assert abs(server_ns - own_ns - told.offset_ns) <= told.bound_ns
            assert abs(-ppm - told.drift_ppm) <= told.drift_bound_ppm + 0.05  # 200 ppm of a clock that is 200 ppm fast
    assert clock.irregularities == []


def test_between_idle_machines_a_cable_gives_a_fifth_of_a_ms_and_a_drift_to_a_few_ppm() -> None:
    clock = ClockComparison()
    found = exchanges(MachineClock(ppm=200.0), rng_for(7, "cable"))
    for each in found:
        clock.add(each.t0_ns, each.t1_ns, each.t2_ns, each.t3_ns)
    told = known(clock, found[-1].t3_ns)
    assert told.bound_ns < 0.2 * NS_PER_MS
    assert told.drift_ppm == pytest.approx(-200, abs=10)
    assert told.drift_bound_ppm < 30


def test_a_slow_exchange_tells_less_than_a_quick_one_of_a_while_ago() -> None:
    clock = ClockComparison()
    for second in range(30):
        clock.add(
            second * NS_PER_S, second * NS_PER_S + 100_000, second * NS_PER_S + 100_000, second * NS_PER_S + 200_000
        )
    before = known(clock, 30 * NS_PER_S).bound_ns
    clock.add(30 * NS_PER_S, 30 * NS_PER_S + 49_900_000, 30 * NS_PER_S + 49_900_000, 30 * NS_PER_S + 50_000_000)
    assert known(clock, 30 * NS_PER_S).bound_ns == before


@pytest.mark.parametrize(("there", "back"), NETWORKS)
@pytest.mark.parametrize("by_ms", [-100.0, 100.0])
def test_a_step_is_noticed_with_the_next_exchanges_and_the_truth_is_told_again(
    there: Delay, back: Delay, by_ms: float
) -> None:
    machine = MachineClock(ppm=30.0).change(60.0, by_ms=by_ms)
    rng = rng_for(7, "step", there.__name__, back.__name__, str(by_ms))
    clock = ClockComparison()
    for each in exchanges(machine, rng, there=there, back=back):
        clock.add(each.t0_ns, each.t1_ns, each.t2_ns, each.t3_ns)
        if not clock.irregularities and each.t1_ns >= 60 * NS_PER_S - 200 * NS_PER_MS:
            continue
        own_ns = machine.own_ns(each.t2_ns)
        told = known(clock, own_ns)
        assert abs(each.t2_ns - own_ns - told.offset_ns) <= told.bound_ns
    assert {found.kind for found in clock.irregularities} == {"step"}
    # The other's clock gains what the own one loses.
    assert sum(found.by_ns for found in clock.irregularities) / NS_PER_MS == pytest.approx(-by_ms, abs=40)
    step = clock.irregularities[0]
    assert step.after_ns <= machine.own_ns(60 * NS_PER_S) + 200 * NS_PER_MS
    assert machine.own_ns(60 * NS_PER_S - 1) - 200 * NS_PER_MS <= step.until_ns


@pytest.mark.parametrize("ppm", [-120.0, 150.0])
def test_a_change_of_drift_is_noticed_within_seconds(ppm: float) -> None:
    machine = MachineClock(ppm=0.0).change(60.0, ppm=ppm)
    clock = ClockComparison()
    for each in exchanges(machine, rng_for(7, "drift", str(ppm))):
        clock.add(each.t0_ns, each.t1_ns, each.t2_ns, each.t3_ns)
    (change,) = clock.irregularities
    assert change.kind == "drift"
    assert change.after_ns <= machine.own_ns(60 * NS_PER_S) <= change.until_ns < machine.own_ns(75 * NS_PER_S)
    assert known(clock, machine.own_ns(120 * NS_PER_S)).drift_ppm == pytest.approx(-ppm, abs=20)


def test_a_moment_of_the_other_clock_is_found_on_the_own_one() -> None:
    machine = MachineClock(ppm=200.0)
    clock = ClockComparison()
    for each in exchanges(machine, rng_for(7, "own"), until_s=30.0):
        clock.add(each.t0_ns, each.t1_ns, each.t2_ns, each.t3_ns)
    own_ns = clock.own_at(31 * NS_PER_S)
    assert own_ns is not None
    assert own_ns == pytest.approx(machine.own_ns(31 * NS_PER_S), abs=0.5 * NS_PER_MS)
    assert own_ns + known(clock, own_ns).offset_ns == pytest.approx(31 * NS_PER_S, abs=2)


def test_an_answer_that_came_before_its_question_tells_nothing() -> None:
    # The other had it for 300 ns of the 100 that it took.
    clock = ClockComparison()
    clock.add(1_000, 51_000, 51_300, 1_100)
    assert clock.at(1_000) is None


@pytest.mark.parametrize("stamps", [(5, 0, 0, 4), (0, 5, 4, 9)])
def test_clocks_that_go_back_are_refused(stamps: tuple[int, int, int, int]) -> None:
    with pytest.raises(ValueError, match="goes back in time"):
        ClockComparison().add(*stamps)


def test_exchanges_are_taken_in_their_order() -> None:
    clock = ClockComparison()
    clock.add(10, 10, 10, 20)
    with pytest.raises(ValueError, match="comes after one of 15 ns"):
        clock.add(0, 0, 0, 2)


def test_of_many_exchanges_the_quickest_of_each_time_is_kept() -> None:
    found = [Exchange(0, 7, 7, 10), Exchange(20, 22, 25, 27), Exchange(90, 91, 92, 99), Exchange(100, 0, 0, 105)]
    assert quickest(found, 100) == [found[1], found[3]]
