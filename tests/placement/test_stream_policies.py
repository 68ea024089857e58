"""Policies for stream workloads, judged by what is made up: what each stage costs somewhere, and beside each other."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest

from edgebench.placement.stream_model import UNKNOWN, Place, Score, Stage, StreamProblem
from edgebench.placement.stream_policies import stream_policy
from edgebench.seeds import rng_for

TIERS = ("device", "edge", "cloud")


class Made:
    """Stages that cost something on each tier, and more beside others there."""

    def __init__(self, rng: np.random.Generator, stages: int, unknown: float = 0.0) -> None:
        self._alone = rng.uniform(1, 10, (stages, 3))
        self._together = rng.uniform(0, 4, (stages, stages, 3))
        self._unknown = rng.uniform(0, 1, (stages, 3)) < unknown
        self.judged = set[tuple[tuple[int, Place], ...]]()
        self.problem = StreamProblem(tuple(Stage(f"w{n}", "bed", TIERS) for n in range(stages)), self.judge)

    def judge(self, placed: Mapping[int, Place]) -> Score:
        self.judged.add(tuple(sorted(placed.items())))
        at = {stage: TIERS.index(tier) for stage, tier in placed.items()}
        if any(self._unknown[stage, tier] for stage, tier in at.items()):
            return UNKNOWN
        together = (
            self._together[one, other, tier] for one, tier in at.items() for other in at if at[other] == tier != 0
        )
        return Score(0.0, 0.0, float(sum(self._alone[stage, tier] for stage, tier in at.items()) + sum(together)))

    def value(self, policy: str, seed: int = 1) -> float:
        decision = stream_policy(policy, 60.0)(self.problem, rng_for(seed, "policy"))
        return self.judge(dict(enumerate(decision.tiers))).value


def test_the_neighbourhood_search_is_near_the_optimum_and_never_worse_than_its_start() -> None:
    over = {"greedy": list[float](), "tabu": list[float]()}
    for seed in range(100):
        made = Made(rng_for(seed, "made"), 6)
        best = made.value("exact")
        for policy, found in over.items():
            found.append(made.value(policy) / best)
    assert all(tabu <= greedy for tabu, greedy in zip(over["tabu"], over["greedy"], strict=True))
    assert np.mean(over["tabu"]) < 1.005
    assert max(over["tabu"]) < 1.05
    assert np.mean(over["greedy"]) > 1.01


def test_the_neighbourhood_search_asks_of_few_of_many_placements() -> None:
    made = Made(rng_for(1, "made"), 10)
    made.value("tabu")
    assert len(made.judged) < 3**10 / 50


@pytest.mark.parametrize("policy", ["greedy", "tabu"])
def test_the_same_seed_decides_the_same(policy: str) -> None:
    made = Made(rng_for(3, "made"), 8)
    assert made.value(policy, seed=5) == made.value(policy, seed=5)


def test_what_nobody_knows_is_not_chosen() -> None:
    for seed in range(20):
        made = Made(rng_for(seed, "made"), 5, unknown=0.2)
        if made.value("exact") < float("inf") and made.value("greedy") < float("inf"):
            assert made.value("tabu") <= made.value("greedy")


def test_one_stage_goes_where_it_is_best() -> None:
    made = Made(rng_for(2, "made"), 1)
    assert made.value("tabu") == made.value("exact")
