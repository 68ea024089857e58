"""The policies for stream workloads by name, and a user's own."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from math import isqrt

import numpy as np

from edgebench.clock import now_s
from edgebench.errors import EdgebenchError
from edgebench.placement.policies import may_not
from edgebench.placement.stream_model import (
    UNKNOWN,
    Place,
    Score,
    StreamDecision,
    StreamPolicy,
    StreamProblem,
    is_chain,
)
from edgebench.placement.users_own import not_allowed, refuse_other_number, users_own
from edgebench.topology.model import Tier
from edgebench.topology.wording import did_you_mean, listed

_PATIENCE = 16
"""So many steps, and one a stage, without a better placement end the neighbourhood search."""


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


def tabu(problem: StreamProblem, rng: np.random.Generator) -> StreamDecision:
    """Neighbourhood search from where `greedy` places: one stage at a time goes to another place.

    Each step takes, of the stages in a random order, the first that is better elsewhere, and where none is, what makes
    the placement least worse. A stage that was moved is tabu for some steps, unless its move leads to a better
    placement than any so far (aspiration). Ends after some steps without a better one.
    """
    placed: dict[int, Place] = dict(enumerate(greedy(problem, rng).tiers))
    best, number, free_at = placed, len(problem.stages), [0] * len(problem.stages)
    score = best_score = problem.judge(placed)
    step = since = 0
    while since < _PATIENCE + number:
        step += 1
        since += 1
        chosen: tuple[Score, int, Place] | None = None
        for index in rng.permutation(number).tolist():
            others = (tier for tier in problem.stages[index].tiers if tier != placed[index])
            moves = [(problem.judge({**placed, index: tier}), index, tier) for tier in others]
            if free_at[index] > step:
                moves = [move for move in moves if move[0] < best_score]
            known = [move for move in (*moves, *([chosen] if chosen else [])) if move[0] != UNKNOWN]
            chosen = min(known, key=lambda move: move[0], default=None)
            if chosen is not None and chosen[0] < score:
                break
        if chosen is None:
            continue  # all are tabu, or nobody knows what comes of them
        score, index, tier = chosen
        placed = {**placed, index: tier}
        free_at[index] = step + 1 + isqrt(number) + int(rng.integers(isqrt(number) + 1))
        if score < best_score:
            best, best_score, since = placed, score, 0
    return StreamDecision(tuple(best.values()))


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
    "tabu": lambda _: tabu,
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
