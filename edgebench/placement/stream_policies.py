"""The policies for stream workloads by name, and a user's own."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import numpy as np

from edgebench.clock import now_s
from edgebench.errors import EdgebenchError
from edgebench.placement.policies import POLICIES, may_not
from edgebench.placement.stream_model import Place, StreamDecision, StreamPolicy, StreamProblem, is_chain
from edgebench.placement.users_own import not_allowed, refuse_other_number, users_own
from edgebench.topology.model import Tier
from edgebench.topology.wording import did_you_mean, listed


def all_on(tier: Tier) -> StreamPolicy:
    """The policy that places every stage on one tier; raises EdgebenchError where it may not be."""

    def place(problem: StreamProblem, _: np.random.Generator) -> StreamDecision:
        for stage in problem.stages:
            if tier not in stage.tiers and any(map(is_chain, stage.tiers)):
                may = f"{stage.name} may be on {listed(stage.tiers)} (take another)"
                raise EdgebenchError(f"--policy all-{tier}: {may}")
            if tier not in stage.tiers:
                raise may_not(tier)
        return StreamDecision((tier,) * len(problem.stages))

    return place


def best_layer(problem: StreamProblem, _: np.random.Generator) -> StreamDecision:
    """Each stage is placed where it would be best if it were alone."""
    return StreamDecision(
        tuple(
            min(stage.tiers, key=lambda tier: problem.judge({index: tier}))
            for index, stage in enumerate(problem.stages)
        )
    )


def greedy(problem: StreamProblem, _: np.random.Generator) -> StreamDecision:
    """Each stage, in the order of the file, is placed where it is best beside all that were placed before it."""
    placed: dict[int, Place] = {}
    for index, stage in enumerate(problem.stages):
        placed[index] = min(stage.tiers, key=lambda tier: problem.judge({**placed, index: tier}))
    return StreamDecision(tuple(placed.values()))


def at_random(problem: StreamProblem, rng: np.random.Generator) -> StreamDecision:
    """Each stage is placed by chance, on each tier that it may be on with the same one."""
    return StreamDecision(tuple(stage.tiers[int(rng.integers(len(stage.tiers)))] for stage in problem.stages))


def exact(limit_s: float) -> StreamPolicy:
    """The best of all placements, each of which is judged; or of those that are within `limit_s`."""

    def place(problem: StreamProblem, _: np.random.Generator) -> StreamDecision:
        until_s = now_s() + limit_s
        each = itertools.product(*(stage.tiers for stage in problem.stages))
        best = next(each)
        score = problem.judge(dict(enumerate(best)))
        for tiers in each:
            if now_s() > until_s:
                return StreamDecision(best, proven=False)
            other = problem.judge(dict(enumerate(tiers)))
            if other < score:
                best, score = tiers, other
        return StreamDecision(best, proven=math.isfinite(score.value))

    return place


STREAM_POLICIES: dict[str, Callable[[float], StreamPolicy]] = {
    "all-device": lambda _: all_on("device"),
    "all-edge": lambda _: all_on("edge"),
    "all-cloud": lambda _: all_on("cloud"),
    "best-layer": lambda _: best_layer,
    "greedy": lambda _: greedy,
    "exact": exact,
    "random": lambda _: at_random,
}
"""Name -> the policy, given how long, s, it may judge placements."""


def stream_policy(name: str, limit_s: float) -> StreamPolicy:
    """A built-in policy, or the function at `module:function`, which gives the tier of each stage.

    Raises EdgebenchError for what is neither.
    """
    if name in STREAM_POLICIES:
        return STREAM_POLICIES[name](limit_s)
    if name in POLICIES:
        raise EdgebenchError(f"--policy {name}: is for job traces (for workloads: {', '.join(STREAM_POLICIES)})")
    if ":" in name:
        return _users_own(name)
    raise EdgebenchError(
        f"--policy {name}: no such policy{did_you_mean(name, STREAM_POLICIES)}, or give module:function"
    )


def _users_own(name: str) -> StreamPolicy:
    function = users_own(name)

    def place(problem: StreamProblem, rng: np.random.Generator) -> StreamDecision:
        tiers = function(problem, rng)
        refuse_other_number(name, tiers, len(problem.stages), "stage")
        for stage, tier in zip(problem.stages, tiers, strict=True):
            if tier not in stage.tiers:
                raise not_allowed(name, stage.name, tier, stage.tiers)
        return StreamDecision(tuple(tiers))

    return place
