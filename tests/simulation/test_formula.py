"""What the formula says, where theory is exact."""

from __future__ import annotations

import math
from itertools import islice

import msgspec
import numpy as np
import pytest

from edgebench.core.links import jitter_draws
from edgebench.simulation.formula import FormulaTimes, times_of
from edgebench.topology.link_model import Jitter, Link
from tests.simulation.made import MS, chain, laid_out, times


def means(said: FormulaTimes) -> dict[str, float]:
    """By hop, ns."""
    return {hop: took_ns.mean for hop, took_ns in said.hops_ns.items()}


def test_an_edge_with_fixed_service_is_an_m_d_1_queue() -> None:
    """Poisson arrivals, 10 ms each: at 80 % a sample waits 20 ms. Source: Pollaczek 1930 and Khinchine 1932."""
    made = chain({"kind": "poisson", "rate_hz": 20}, duration_s=10, beds=4)
    hops = means(times_of(laid_out(made, times([10 * MS])))["watch"])
    assert hops["queue"] == pytest.approx(20 * MS)
    assert hops["infer"] == pytest.approx(10 * MS)
    assert hops["uplink"] == hops["downlink"] == hops["edge_forward"] == 0


def test_beyond_capacity_it_has_no_answer() -> None:
    made = chain({"kind": "poisson", "rate_hz": 30}, duration_s=10, beds=4)
    said = times_of(laid_out(made, times([10 * MS])))["watch"]
    assert said.hops_ns["queue"].mean == said.latency_ns.mean == said.latency_ns.percentile(0.5) == math.inf
    assert said.hops_ns["infer"].mean == pytest.approx(10 * MS)


def test_a_cascade_passes_on_its_share() -> None:
    made = chain({"kind": "poisson", "rate_hz": 1}, duration_s=10, place={"infer": "cascade"})
    known = times([MS], {"backhaul-up": (4 * MS,)}, unsure=0.25, heavy_ns={1: [8 * MS]})
    said = times_of(laid_out(made, known))["watch"]
    hops = means(said)
    assert hops["backhaul_up"] == pytest.approx(MS)
    assert hops["infer"] == pytest.approx(0.75 * MS + 0.25 * 8 * MS)
    assert said.hops_ns["infer"].percentile(0.5) == pytest.approx(MS)
    assert said.hops_ns["infer"].percentile(0.9) == pytest.approx(8 * MS)
    # With hardly anything to wait for: three of four at once, the others after 1, 4 and 8 ms.
    assert said.latency_ns.mean == pytest.approx(0.75 * MS + 0.25 * 13 * MS, rel=0.01)
    assert said.latency_ns.percentile(0.5) == pytest.approx(MS, rel=0.01)
    assert said.latency_ns.percentile(0.9) == pytest.approx(13 * MS, rel=0.01)


def test_batches_that_came_about_are_served_as_batches() -> None:
    """A hundred a second, each of which takes 13 ms by itself, and two together 14."""
    made = chain({"kind": "poisson", "rate_hz": 50}, duration_s=10, beds=2, batch={"max_batch": 2})
    layout = laid_out(made, times({1: [12 * MS], 2: [12 * MS]}, {"answer": (MS,)}))
    assert means(times_of(layout)["watch"])["queue"] == math.inf
    said = times_of(layout, {("watch", "edge"): 2.0})["watch"]
    hops = means(said)
    # 50 pairs a second of 14 ms each; a pair's gaps vary half as much. Source: Whitt 1983, eqs. 44 and 45.
    busy, scv = 0.7, 0.5
    damped = math.exp(-2 * (1 - busy) * (1 - scv) ** 2 / (3 * busy * scv))
    assert hops["queue"] == pytest.approx(14 * MS * busy * scv / (2 * (1 - busy)) * damped)
    assert hops["infer"] == pytest.approx(12 * MS)
    # The second of each pair waits for the answer to the first.
    assert hops["downlink"] == pytest.approx(0.5 * MS)
    assert said.latency_ns.mean == pytest.approx(sum(hops.values()))


def test_a_batch_that_waits_for_more_makes_its_samples_wait() -> None:
    made = chain({"kind": "poisson", "rate_hz": 1}, duration_s=10, batch={"max_batch": 4, "max_wait_ms": 20})
    layout = laid_out(made, times({size: [MS] for size in range(1, 5)}))
    hops = means(times_of(layout, {("watch", "edge"): 1.0})["watch"])
    assert hops["queue"] == pytest.approx(20 * MS, rel=0.001)


def test_percentiles_of_an_m_m_1_queue_are_exact() -> None:
    """Exponential service of 5 ms in the mean, at 80 %: so is the sojourn, of 25 ms. Source: any book on queues."""
    ranks = (np.arange(4_000) + 0.5) / 4_000
    served = np.rint(-5 * MS * np.log1p(-ranks)).astype(int).tolist()
    made = chain({"kind": "poisson", "rate_hz": 40}, duration_s=10, beds=4)
    latency_ns = times_of(laid_out(made, times(served)))["watch"].latency_ns
    assert latency_ns.mean == pytest.approx(25 * MS, rel=0.01)
    for share in (0.5, 0.9, 0.99):
        assert latency_ns.percentile(share) == pytest.approx(-25 * MS * math.log(1 - share), rel=0.02)


@pytest.mark.parametrize("jitter", ["uniform", "normal", "pareto"])
def test_a_latency_varies_as_its_jitter_does(jitter: Jitter) -> None:
    """20 ms, give or take 3: as many draws as a link would make."""
    made = chain({"kind": "poisson", "rate_hz": 1}, duration_s=10)
    link = Link(between=("bed", "ward"), latency_ms=20, jitter_ms=3, jitter=jitter)
    up = times_of(laid_out(msgspec.structs.replace(made, links=(link,)), times([MS])))["watch"].hops_ns["uplink"]
    drawn = 20 + 3 * np.array(list(islice(jitter_draws(jitter, 7), 200_000)))
    assert up.mean == pytest.approx(20 * MS)
    for share in (0.5, 0.9, 0.99):
        assert up.percentile(share) == pytest.approx(float(np.quantile(drawn, share)) * MS, rel=0.12), share
