"""The policies by name, and a user's own."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from edgebench.errors import EdgebenchError
from edgebench.placement.exact import exact
from edgebench.placement.greedy import greedy
from edgebench.placement.model import Decision, Option, Policy, Problem
from edgebench.placement.schedule import by_priority
from edgebench.placement.tabu import tabu
from edgebench.placement.users_own import not_allowed, refuse_other_number, users_own
from edgebench.topology.model import Tier
from edgebench.topology.wording import did_you_mean


def all_on(tier: Tier) -> Policy:
    """The policy that places every job on one tier; raises EdgebenchError where it may not be."""

    def place(problem: Problem, _: np.random.Generator) -> Decision:
        options = [job.of_tier(tier) for job in problem.jobs]
        if None in options:
            raise may_not(tier)
        return Decision(by_priority(problem, [option for option in options if option is not None]))

    return place


def may_not(tier: Tier) -> EdgebenchError:
    """What to say where everything is to be on one tier, and may not."""
    return EdgebenchError(f"--policy all-{tier}: place.allow does not have '{tier}' (add it, or take another)")


def best_layer(problem: Problem, _: np.random.Generator) -> Decision:
    """Each job is placed where it would end first if it were alone."""
    return Decision(by_priority(problem, [min(job.options, key=_alone_s) for job in problem.jobs]))


def at_random(problem: Problem, rng: np.random.Generator) -> Decision:
    """Each job is placed by chance, on each tier that it may be on with the same one."""
    return Decision(by_priority(problem, [job.options[int(rng.integers(len(job.options)))] for job in problem.jobs]))


def _alone_s(option: Option) -> float:
    return option.transmission_s + option.processing_s


def _exact(limit_s: float) -> Policy:
    return lambda problem, rng: exact(problem, rng, tabu(problem, rng).orders, limit_s)


POLICIES: dict[str, Callable[[float], Policy]] = {
    "all-device": lambda _: all_on("device"),
    "all-edge": lambda _: all_on("edge"),
    "all-cloud": lambda _: all_on("cloud"),
    "best-layer": lambda _: best_layer,
    "greedy": lambda _: greedy,
    "tabu": lambda _: tabu,
    "exact": _exact,
    "random": lambda _: at_random,
}
"""Name -> the policy, given how long, s, it may seek a proof."""


def policy_named(name: str, limit_s: float) -> Policy:
    """A built-in policy, or the function at `module:function`, which gives the tier of each job.

    Raises EdgebenchError for what is neither.
    """
    if name in POLICIES:
        return POLICIES[name](limit_s)
    if ":" in name:
        return _users_own(name)
    raise EdgebenchError(f"--policy {name}: no such policy{did_you_mean(name, POLICIES)}, or give module:function")


def _users_own(name: str) -> Policy:
    function = users_own(name)

    def place(problem: Problem, rng: np.random.Generator) -> Decision:
        tiers = function(problem, rng)
        refuse_other_number(name, tiers, len(problem.jobs), "job")
        return Decision(by_priority(problem, [_allowed(name, problem, *each) for each in enumerate(tiers)]))

    return place


def _allowed(name: str, problem: Problem, index: int, tier: object) -> Option:
    options = problem.jobs[index].options
    for option in options:
        if option.tier == tier:
            return option
    raise not_allowed(name, f"job {index}", tier, [option.tier for option in options])
