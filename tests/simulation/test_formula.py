"""What the formula says, where theory is exact."""

from __future__ import annotations

import math

import pytest

from edgebench.simulation.formula import mean_hops_ns
from tests.simulation.made import MS, chain, laid_out, times


def test_an_edge_with_fixed_service_is_an_m_d_1_queue() -> None:
    """Poisson arrivals, 10 ms each: at 80 % a sample waits 20 ms. Source: Pollaczek 1930 and Khinchine 1932."""
    made = chain({"kind": "poisson", "rate_hz": 20}, duration_s=10, beds=4)
    hops = mean_hops_ns(laid_out(made, times([10 * MS])))["watch"]
    assert hops["queue"] == pytest.approx(20 * MS)
    assert hops["infer"] == pytest.approx(10 * MS)
    assert hops["uplink"] == hops["downlink"] == hops["edge_forward"] == 0


def test_beyond_capacity_it_has_no_answer() -> None:
    made = chain({"kind": "poisson", "rate_hz": 30}, duration_s=10, beds=4)
    assert mean_hops_ns(laid_out(made, times([10 * MS])))["watch"]["queue"] == float("inf")


def test_a_cascade_passes_on_its_share() -> None:
    made = chain({"kind": "poisson", "rate_hz": 1}, duration_s=10, place={"infer": "cascade"})
    hops = mean_hops_ns(laid_out(made, times([MS], {"backhaul-up": (4 * MS,)}, unsure=0.25, heavy_ns={1: [8 * MS]})))
    assert hops["watch"]["backhaul_up"] == pytest.approx(MS)
    assert hops["watch"]["infer"] == pytest.approx(0.75 * MS + 0.25 * 8 * MS)


def test_batches_that_came_about_are_served_as_batches() -> None:
    """A hundred a second, each of which takes 13 ms by itself, and two together 14."""
    made = chain({"kind": "poisson", "rate_hz": 50}, duration_s=10, beds=2, batch={"max_batch": 2})
    layout = laid_out(made, times({1: [12 * MS], 2: [12 * MS]}, {"answer": (MS,)}))
    assert mean_hops_ns(layout)["watch"]["queue"] == float("inf")
    hops = mean_hops_ns(layout, {("watch", "edge"): 2.0})["watch"]
    # 50 pairs a second of 14 ms each; a pair's gaps vary half as much. Source: Whitt 1983, eqs. 44 and 45.
    busy, scv = 0.7, 0.5
    damped = math.exp(-2 * (1 - busy) * (1 - scv) ** 2 / (3 * busy * scv))
    assert hops["queue"] == pytest.approx(14 * MS * busy * scv / (2 * (1 - busy)) * damped)
    assert hops["infer"] == pytest.approx(12 * MS)
    assert hops["downlink"] == pytest.approx(0.5 * MS)


def test_a_batch_that_waits_for_more_makes_its_samples_wait() -> None:
    made = chain({"kind": "poisson", "rate_hz": 1}, duration_s=10, batch={"max_batch": 4, "max_wait_ms": 20})
    hops = mean_hops_ns(laid_out(made, times({size: [MS] for size in range(1, 5)})), {("watch", "edge"): 1.0})
    assert hops["watch"]["queue"] == pytest.approx(20 * MS, rel=0.001)
