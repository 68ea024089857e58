"""How good policies are, and what they are told."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given

from edgebench.errors import EdgebenchError
from edgebench.placement.exact import exact
from edgebench.placement.model import JobOptions, Option, Problem
from edgebench.placement.policies import POLICIES, policy_named
from edgebench.placement.schedule import value_s
from edgebench.seeds import rng_for
from tests.placement.problems import FEW, QUICK, by_enumeration, crowded, problems

OTHERS = ("best-layer", "greedy", "tabu", "random")


def value_by(policy: str, problem: Problem, seed: int = 0) -> float:
    return value_s(problem, policy_named(policy, 10.0)(problem, rng_for(seed, policy)).orders)


@FEW
@given(problems(most_jobs=4))
def test_exact_is_the_best_of_all_schedules(problem: Problem) -> None:
    decision = policy_named("exact", 10.0)(problem, rng_for(0))
    best = by_enumeration(problem)
    assert value_s(problem, decision.orders) == pytest.approx(best)
    assert decision.bound_s is not None
    assert decision.bound_s <= best + 1e-9
    assert decision.bound_s == pytest.approx(best, abs=1e-6)


@FEW
@given(problems())
def test_no_policy_is_better_than_exact(problem: Problem) -> None:
    best = value_by("exact", problem)
    for policy in OTHERS:
        assert value_by(policy, problem) >= best * (1 - 1e-9) - 1e-9


def test_a_job_of_less_than_a_tick_stays_before_the_one_that_begins_with_it() -> None:
    long, short = (JobOptions(0.0, 1, (Option("edge", "ward", 0.0, took_s),)) for took_s in (100.0, 1e-10))
    decision = exact(Problem((long, short)), rng_for(0), {"ward": (0, 1)}, 10.0)
    assert decision.orders == {"ward": (1, 0)}


def test_a_proof_that_takes_too_long_leaves_a_bound_and_the_best_that_was_found() -> None:
    problem = crowded(30)
    decision = policy_named("exact", 0.1)(problem, rng_for(0))
    assert decision.bound_s is not None
    start = policy_named("tabu", 10.0)(problem, rng_for(0))
    assert 0 < decision.bound_s <= value_s(problem, decision.orders) <= value_s(problem, start.orders)


@QUICK
@given(problems())
def test_tabu_is_never_worse_than_its_start(problem: Problem) -> None:
    assert value_by("tabu", problem) <= value_by("greedy", problem)


def test_tabu_makes_a_crowded_trace_better_by_far() -> None:
    problem = crowded(30)
    assert value_by("tabu", problem) < 0.9 * value_by("greedy", problem)


@pytest.mark.parametrize("policy", ["tabu", "random", "exact"])
def test_the_same_seed_decides_the_same(policy: str) -> None:
    problem = crowded(7)
    decide = policy_named(policy, 10.0)
    assert decide(problem, rng_for(3)) == decide(problem, rng_for(3))


def test_chance_differs_by_seed() -> None:
    problem = crowded(30)
    assert POLICIES["random"](1.0)(problem, rng_for(3)) != POLICIES["random"](1.0)(problem, rng_for(4))


OWN = """
def to_the_cloud(problem, rng):
    return ["cloud" for job in problem.jobs]

def nowhere(problem, rng):
    return ["moon" for job in problem.jobs]

def too_few(problem, rng):
    return []

def broken(problem, rng):
    return problem.jobs[0].speed

NUMBER = 3
"""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "placing_of_ones_own.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)
    return "placing_of_ones_own"


def test_a_policy_of_ones_own_gives_a_tier_a_job(own: str) -> None:
    problem = crowded(5)
    assert value_by(f"{own}:to_the_cloud", problem) == value_by("all-cloud", problem)


@pytest.mark.parametrize(
    ("function", "said"),
    [
        ("nowhere", "placed job 0 on 'moon', and it may be on device, edge, cloud"),
        ("too_few", "gave 0 tiers for 5 jobs (give one a job)"),
        ("broken", "failed: AttributeError: 'JobOptions' object has no attribute 'speed'"),
        ("NUMBER", "module 'placing_of_ones_own' has no function 'NUMBER'"),
        ("absent", "module 'placing_of_ones_own' has no function 'absent'"),
    ],
)
def test_what_is_wrong_with_a_policy_of_ones_own_is_one_line(own: str, function: str, said: str) -> None:
    with pytest.raises(EdgebenchError) as refused:
        value_by(f"{own}:{function}", crowded(5))
    assert str(refused.value).startswith(f"--policy {own}:{function}: {said}")
    assert "\n" not in str(refused.value)


def test_a_policy_that_there_is_not_is_told_with_those_that_are_near() -> None:
    with pytest.raises(EdgebenchError, match=r"--policy gredy: no such policy \(did you mean 'greedy'\?\)"):
        policy_named("gredy", 1.0)
    with pytest.raises(EdgebenchError, match=r"no module 'absent_policies' \(is it installed, or on PYTHONPATH\?\)"):
        policy_named("absent_policies:best", 1.0)
