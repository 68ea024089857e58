"""Small allocation problems, made up."""

from __future__ import annotations

from itertools import permutations, product

from hypothesis import settings
from hypothesis import strategies as st

from edgebench.placement.model import JobOptions, Option, Problem
from edgebench.placement.schedule import value_s
from edgebench.seeds import rng_for
from edgebench.topology.model import Tier

TIERS: tuple[Tier, ...] = ("device", "edge", "cloud")
QUICK = settings(max_examples=15, deadline=None, database=None, derandomize=True)
FEW = settings(QUICK, max_examples=5)
# Quarters of a second are exact in binary, so that sums can be compared.
QUARTERS = st.integers(0, 24).map(lambda quarters: quarters / 4)


@st.composite
def problems(draw: st.DrawFn, most_jobs: int = 7) -> Problem:
    """Up to so many jobs of two wards and a cloud, each job with a device of its own or one that it shares."""
    jobs = []
    for index in range(draw(st.integers(1, most_jobs))):
        nodes = (f"bed-{index // draw(st.integers(1, 2))}", f"ward-{draw(st.integers(0, 1))}", "cloud")
        tiers = draw(st.sets(st.integers(0, 2), min_size=1))
        options = tuple(
            Option(TIERS[tier], nodes[tier], draw(QUARTERS) if tier else 0.0, draw(QUARTERS)) for tier in sorted(tiers)
        )
        jobs.append(JobOptions(draw(QUARTERS), draw(st.integers(1, 5)), options))
    return Problem(tuple(jobs))


def crowded(number: int, seed: int = 0) -> Problem:
    """Jobs that come faster than one edge can serve them."""
    rng = rng_for(seed, "crowded")
    return Problem(
        tuple(
            JobOptions(
                float(rng.uniform(0, number)),
                int(rng.integers(1, 4)),
                (
                    Option("device", f"bed-{index % 10}", 0.0, float(rng.uniform(5, 20))),
                    Option("edge", "ward", float(rng.uniform(0, 2)), float(rng.uniform(1, 4))),
                    Option("cloud", "cloud", float(rng.uniform(2, 6)), float(rng.uniform(0.1, 2))),
                ),
            )
            for index in range(number)
        )
    )


def by_enumeration(problem: Problem) -> float:
    """The least weighted sum of response times of all schedules."""
    best = float("inf")
    for options in product(*(job.options for job in problem.jobs)):
        placed: dict[str, list[int]] = {}
        for index, option in enumerate(options):
            placed.setdefault(option.node, []).append(index)
        for orders in product(*(permutations(indices) for indices in placed.values())):
            best = min(best, value_s(problem, dict(zip(placed, orders, strict=True))))
    return best
