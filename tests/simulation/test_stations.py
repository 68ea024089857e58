"""What must hold of any station, and what theory says of some."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from edgebench.seeds import rng_for
from edgebench.simulation.stations import fifo, fifo_by_group, fifo_chain, fifo_workers

Ints = NDArray[np.int64]
_QUICK = settings(max_examples=50, deadline=None, derandomize=True, database=None)
_TIMES = st.lists(st.tuples(st.integers(0, 50), st.integers(0, 30)), min_size=1, max_size=60)


def arrays(drawn: list[tuple[int, int]]) -> tuple[Ints, Ints]:
    """Arrivals from gaps, and services."""
    gaps, services = np.array(drawn, np.int64).T
    return np.cumsum(gaps), np.ascontiguousarray(services)


@_QUICK
@given(_TIMES)
def test_a_station_serves_in_order_and_is_idle_only_while_nobody_waits(drawn: list[tuple[int, int]]) -> None:
    arrivals, services = arrays(drawn)
    departures = fifo(arrivals, services)
    assert (np.diff(departures) >= 0).all()
    before = np.concatenate([[0], departures[:-1]])
    assert (departures - services == np.maximum(before, arrivals)).all()


@_QUICK
@given(_TIMES)
def test_littles_law_holds(drawn: list[tuple[int, int]]) -> None:
    """The mean number that is there is the rate of arrivals times the mean time that each stays."""
    arrivals, services = arrays(drawn)
    departures = fifo(arrivals, services)
    steps = sorted([(at, 1) for at in arrivals.tolist()] + [(at, -1) for at in departures.tolist()])
    there = area = 0
    for (at, change), (until, _) in itertools.pairwise(steps):
        there += change
        area += there * (until - at)
    span = steps[-1][0] - steps[0][0]
    if span:
        rate, stay = len(arrivals) / span, (departures - arrivals).mean()
        assert area / span == pytest.approx(rate * stay)


@_QUICK
@given(_TIMES, st.integers(1, 5))
def test_several_workers_are_never_idle_while_somebody_waits(drawn: list[tuple[int, int]], workers: int) -> None:
    arrivals, services = arrays(drawn)
    departures = fifo_workers(arrivals, services, workers)
    free = [0] * workers
    for at, service, left in zip(arrivals.tolist(), services.tolist(), departures.tolist(), strict=True):
        first = min(range(workers), key=free.__getitem__)
        free[first] = max(free[first], at) + service
        assert left == free[first]
    if workers == 1:
        assert (departures == fifo(arrivals, services)).all()


@_QUICK
@given(_TIMES, st.integers(1, 4))
def test_groups_are_stations_of_their_own(drawn: list[tuple[int, int]], groups: int) -> None:
    arrivals, services = arrays(drawn)
    group = np.arange(len(arrivals)) % groups
    departures = fifo_by_group(arrivals, services, group, groups)
    for each in range(groups):
        mine = group == each
        assert (departures[mine] == fifo(arrivals[mine], services[mine])).all()


@_QUICK
@given(_TIMES, st.integers(1, 4))
def test_more_capacity_never_hurts_a_chain(drawn: list[tuple[int, int]], stations: int) -> None:
    arrivals, first = arrays(drawn)
    services = np.stack([np.roll(first, shift) for shift in range(stations)])
    slow = fifo_chain(arrivals, services)
    quick = fifo_chain(arrivals, services // 2)
    assert (quick <= slow).all()
    at = arrivals
    for of_station in services:
        at = fifo(at, of_station)
    assert (at == slow).all()


def test_an_overloaded_station_grows_as_it_must() -> None:
    """At 125 % of what it can do, each arrival waits a quarter of a service longer than the one before."""
    arrivals, services = np.arange(1_000, dtype=np.int64) * 80, np.full(1_000, 100, np.int64)
    waits = fifo(arrivals, services) - arrivals - services
    assert (waits == np.arange(1_000) * 20).all()


@pytest.mark.parametrize("load", [0.3, 0.7, 0.9])
@pytest.mark.parametrize(("kind", "workers"), [("M/M/1", 1), ("M/D/1", 1), ("M/M/4", 4)])
def test_waiting_times_are_those_of_theory(kind: str, workers: int, load: float) -> None:
    """The mean of twenty runs is within their 99.9 % interval; services last 1 ms on average."""
    service_ns, n = 1_000_000, 200_000
    means = []
    for number in range(20):
        rng = rng_for(number, "theory", kind, int(load * 100))
        arrivals = np.cumsum(rng.exponential(service_ns / (workers * load), n)).astype(np.int64)
        services = np.full(n, service_ns) if kind == "M/D/1" else rng.exponential(service_ns, n).astype(np.int64)
        departures = fifo_workers(arrivals, services, workers)
        means.append(float((departures - arrivals - services)[n // 10 :].mean()) / service_ns)
    half = 3.883 * float(np.std(means, ddof=1)) / math.sqrt(len(means))  # Student's t, 19 degrees of freedom
    assert abs(float(np.mean(means)) - expected_wait(kind, workers, load)) < half


def expected_wait(kind: str, workers: int, load: float) -> float:
    """In services. Source: Erlang 1917; Pollaczek 1930 and Khinchine 1932."""
    if kind == "M/D/1":
        return load / (2 * (1 - load))
    offered = workers * load
    waiting = offered**workers / math.factorial(workers) / (1 - load)
    chance = waiting / (sum(offered**k / math.factorial(k) for k in range(workers)) + waiting)
    return chance / (workers * (1 - load))
