"""The cloud's clock as processes of other machines know it."""

from __future__ import annotations

from edgebench.clock import NS_PER_MS, NS_PER_S, now_ns
from edgebench.core.clocks import Exchange
from edgebench.fabric.cloud_clock import START_BOUND_NS, CloudClock
from edgebench.fabric.slices import RunState

RUNNING = RunState("running", start_ns=7 * NS_PER_S)


def test_on_the_cloud_s_machine_its_time_is_one_s_own_and_known_at_once() -> None:
    clock = CloudClock(shared=True)
    clock.compare(Exchange(0, 5 * NS_PER_S, 5 * NS_PER_S, NS_PER_S))
    assert clock.is_known
    assert clock.bound_ns == 0
    assert clock.on_own(RUNNING) is RUNNING


def test_elsewhere_the_start_is_brought_to_the_own_clock() -> None:
    clock = CloudClock(shared=False)
    own_ns = now_ns()
    # The cloud's clock reads 5 s when this one reads `own_ns`.
    clock.compare(Exchange(own_ns - 100_000, 5 * NS_PER_S, 5 * NS_PER_S, own_ns + 100_000))
    found = clock.on_own(RUNNING)
    assert found.phase == "running"
    assert found.start_ns is not None
    assert abs(found.start_ns - own_ns - 2 * NS_PER_S) <= 1_000


def test_it_is_not_known_before_it_was_compared_nor_by_a_slow_answer() -> None:
    clock = CloudClock(shared=False)
    assert not clock.is_known
    own_ns = now_ns()
    clock.compare(Exchange(own_ns - 200 * NS_PER_MS, 5 * NS_PER_S, 5 * NS_PER_S, own_ns))
    assert not clock.is_known
    assert clock.bound_ns is not None
    assert clock.bound_ns > START_BOUND_NS
    assert clock.wants == "it knows the cloud's clock to ± 100 ms, and may start by ± 25 ms"
    clock.compare(Exchange(own_ns, 5 * NS_PER_S, 5 * NS_PER_S, own_ns + 10 * NS_PER_MS))
    assert clock.is_known
    assert clock.wants == ""


def test_the_longest_round_trip_is_without_what_the_cloud_took_for_its_answer() -> None:
    clock, own = CloudClock(shared=False), CloudClock(shared=True)
    for each in (clock, own):
        each.compare(Exchange(0, 100 * NS_PER_MS, 600 * NS_PER_MS, 800 * NS_PER_MS))
        each.compare(Exchange(NS_PER_S, NS_PER_S, NS_PER_S, NS_PER_S + 100 * NS_PER_MS))
    assert (clock.longest_round_trip_s, own.longest_round_trip_s) == (0.3, 0.0)


def test_before_the_streams_there_is_no_time_to_bring_over() -> None:
    preparing = RunState("preparing")
    assert CloudClock(shared=False).on_own(preparing) is preparing
