"""Single queues by two moments, where theory is exact."""

from __future__ import annotations

import math

import pytest

from edgebench.simulation.two_moments import Mixture, Moments, Service, Stream, station, wait

BUSY = [0.1, 0.5, 0.8, 0.95]


@pytest.mark.parametrize("busy", BUSY)
def test_the_wait_of_an_m_m_1_queue_is_exact(busy: float) -> None:
    """A share `busy` of all waits, exponentially long: E[W²] = busy * 2 (service / (1 - busy))²."""
    mean, square = busy * 5 / (1 - busy), busy * 2 * (5 / (1 - busy)) ** 2
    assert wait(5, busy, 1, 1) == pytest.approx((0, mean, square - mean**2))


@pytest.mark.parametrize("busy", BUSY)
def test_the_wait_of_an_m_d_1_queue_is_exact(busy: float) -> None:
    """E[W²] = 2 E[W]² + rate * E[S³] / 3 (1 - busy). Source: Takács 1962."""
    mean = 10 * busy / (2 * (1 - busy))
    square = 2 * mean**2 + busy / 10 * 10**3 / (3 * (1 - busy))
    assert wait(10, busy, 1, 0) == pytest.approx((0, mean, square - mean**2))


@pytest.mark.parametrize("busy", BUSY)
def test_the_wait_for_a_server_that_varies_much_is_exact(busy: float) -> None:
    """Of a balanced mixture of two exponential services whose squared coefficient of variation is 4, by the same."""
    part = (1 + math.sqrt(3 / 5)) / 2
    means = 10 / (2 * part), 10 / (2 * (1 - part))
    square, cube = (
        math.factorial(power) * (part * means[0] ** power + (1 - part) * means[1] ** power) for power in (2, 3)
    )
    assert square == pytest.approx(5 * 10**2)
    mean = busy / 10 * square / (2 * (1 - busy))
    assert wait(10, busy, 1, 4) == pytest.approx((0, mean, 2 * mean**2 + busy / 10 * cube / (3 * (1 - busy)) - mean**2))


def test_the_wait_of_a_d_m_1_queue_is_nearly_exact() -> None:
    """At 80 %: of all that come every 10 ms a share s = exp(-(1 - s) / 0.8) waits, exponentially long: 8 / (1 - s) ms.
    Source: any book on queues."""
    waiting = 0.5
    for _ in range(100):
        waiting = math.exp(-(1 - waiting) / 0.8)
    mean, square = waiting * 8 / (1 - waiting), waiting * 2 * (8 / (1 - waiting)) ** 2
    found = wait(8, 0.8, 0, 1)
    assert found.mean == pytest.approx(mean, rel=0.03)
    assert found.variance == pytest.approx(square - mean**2, rel=0.06)


def test_more_variation_of_arrivals_makes_waits_longer_and_more_different() -> None:
    found = [wait(10, 0.8, scv, 0.5) for scv in (0, 0.5, 0.99, 1.01, 2, 8)]
    assert [each.mean for each in found] == sorted(each.mean for each in found)
    assert [each.variance for each in found] == sorted(each.variance for each in found)
    assert found[2].variance == pytest.approx(found[3].variance, rel=0.05)


def test_nobody_waits_where_nothing_varies_and_for_ever_beyond_the_capacity() -> None:
    assert wait(10, 0.9, 0, 0) == wait(10, 0, 1, 1) == Moments()
    assert station([Stream(0.0, 1.0)], [Service(10, 100)]) == (Moments(), [Stream(0.0, 1.0)])
    waits, (left,) = station([Stream(0.2, 1.0)], [Service(10, 100)])
    assert waits.mean == math.inf
    assert left == Stream(0.1, 0.0)


def test_who_waits_for_a_batch_waits_for_those_that_come_after() -> None:
    """Four come within the 30 ms for which the first waits: it waits for all of them, the others for some part."""
    waits, _ = station([Stream(4 / 30, 1.0)], [Service(0, 0, batch=4.0, gathers_ns=30)])
    assert waits.mean == pytest.approx((30 + 3 * 15) / 4)
    assert waits.variance == pytest.approx((30**2 + 3 * 30**2 / 3) / 4 - waits.mean**2)
    alone, _ = station([Stream(1e-9, 1.0)], [Service(0, 0, gathers_ns=30)])
    assert alone == pytest.approx((30, 30, 0))


def test_a_mixture_is_of_gamma_distributions_above_what_is_least() -> None:
    always, mostly = Moments(3.0, 3.0, 0.0), Moments(10.0, 12.0, 4.0)
    both = Mixture([(always, 1), (mostly, 2), (mostly, 1)])
    assert both.mean == pytest.approx(0.25 * 3 + 0.75 * 12)
    assert both.percentile(0.25) == pytest.approx(3.0)
    # With a mean of 2 and a variance of 4 it is exponential.
    assert both.percentile(0.25 + 0.75 * 0.5) == pytest.approx(10 + 2 * math.log(2))
    assert Mixture([(always, 1)]).percentile(0.99) == pytest.approx(3.0)
    assert Mixture([(Moments(), 1)]).percentile(0.99) == pytest.approx(0.0, abs=1e-6)
    assert Mixture([(always, 1), (Moments(0, math.inf, math.inf), 1)]).percentile(0.1) == math.inf
    assert always.then(mostly, mostly) == Moments(23.0, 27.0, 8.0)
