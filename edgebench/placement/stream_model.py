"""Placing stream workloads: what is placed, how a placement is judged, and what a policy gives."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from edgebench.topology.model import Tier


@dataclass(frozen=True, slots=True)
class Stage:
    """Deciding a workload's samples of one group of devices. tiers: where it may be, at least one."""

    workload: str
    group: str
    tiers: tuple[Tier, ...]

    @property
    def name(self) -> str:
        """In messages."""
        return f"{self.workload} of {self.group}"


class Score(NamedTuple):
    """How good a placement is, the smaller the better: first the share of samples that are lost, then by how much
    limits are exceeded, as a share of each, then the value of the objective."""

    lost: float
    over: float
    value: float


UNKNOWN = Score(math.inf, math.inf, math.inf)
"""Of a placement in which something takes what nobody has measured."""

Judge = Callable[[Mapping[int, Tier]], Score]
"""Judges stages, by their indices, on tiers, as if there were no others."""


@dataclass(frozen=True)
class StreamProblem:
    """Stages, in the order of the file, but none before those whose decisions it waits for, and who judges them."""

    stages: tuple[Stage, ...]
    judge: Judge


@dataclass(frozen=True)
class StreamDecision:
    """A tier for each stage. proven: whether no placement is better; None where the policy does not say."""

    tiers: tuple[Tier, ...]
    proven: bool | None = None


StreamPolicy = Callable[[StreamProblem, np.random.Generator], StreamDecision]
"""All chance comes from the generator."""
