"""The allocation problem, and what a policy decides."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from edgebench.topology.model import Tier


@dataclass(frozen=True, slots=True)
class Option:
    """A machine that a job may be placed on. transmission_s: until all its data are there; processing_s: from then on,
    if nothing else is served."""

    tier: Tier
    node: str
    transmission_s: float
    processing_s: float


@dataclass(frozen=True, slots=True)
class JobOptions:
    """A job. priority: the weight of its response time; options: at least one, each of another node."""

    release_s: float
    priority: int
    options: tuple[Option, ...]

    def at(self, node: str) -> Option:
        """The option of a node. Raises KeyError where the job may not be placed there."""
        for option in self.options:
            if option.node == node:
                return option
        raise KeyError(node)

    def of_tier(self, tier: str) -> Option | None:
        """The option of a tier, if the job may be placed there."""
        return next((option for option in self.options if option.tier == tier), None)


Orders = Mapping[str, tuple[int, ...]]
"""Node -> the jobs that it serves, by their indices, in their order. Each job stands in one of them."""


@dataclass(frozen=True)
class Problem:
    """Jobs, in the order of their trace; `jobs[3]` is job 3."""

    jobs: tuple[JobOptions, ...]

    @cached_property
    def by_release(self) -> tuple[int, ...]:
        """The jobs by release, those of the same time by priority, the highest first."""
        return tuple(sorted(range(len(self.jobs)), key=lambda index: _urgency(self.jobs[index])))


def _urgency(job: JobOptions) -> tuple[float, int]:
    return job.release_s, -job.priority


@dataclass(frozen=True)
class Decision:
    """What a policy has decided. bound_s: no schedule has a smaller weighted sum of responses, where that is known."""

    orders: Orders
    bound_s: float | None = None


Policy = Callable[[Problem, np.random.Generator], Decision]
"""All chance comes from the generator."""
UserPolicy = Callable[[Problem, np.random.Generator], Sequence[Tier]]
"""A policy of a user's own: the tier of each job. Each machine then serves by priority what has arrived."""
