"""Placing stream workloads: what is placed, how a placement is judged, and what a policy gives."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

import numpy as np

CHAIN = "chain"
Place: TypeAlias = str
"""A tier, or the edge and then the cloud: `chain` with the two models of the topology, `chain@2` with one that is cut
at its place 2."""


_PLACE = re.compile(r"device|edge|cloud|chain(@([1-9][0-9]{0,3}|10000))?")


def is_place(text: str) -> bool:
    """Whether it is one at all."""
    return _PLACE.fullmatch(text) is not None


def is_chain(place: Place) -> bool:
    """Whether it is none of the tiers."""
    return place.startswith(CHAIN)


def chain_at(cut: int) -> Place:
    """With its model cut at this place."""
    return f"{CHAIN}@{cut}"


def cut_of(place: Place) -> int | None:
    """Where the model of a chain is cut; None of two models, and of a tier."""
    number = place.partition("@")[2]
    return int(number) if number else None


Spot: TypeAlias = tuple[str, str | None]
"""Devices: those of a group or, where an edge is named, those of them that are at its site."""


def spot_name(spot: Spot) -> str:
    """In messages."""
    group, site = spot
    return group if site is None else f"{group} at {site}"


@dataclass(frozen=True, slots=True)
class Stage:
    """Deciding a workload's samples of one group of devices, or of those at one site. tiers: where it may be, at least
    one; of a chain, its two stages are one such place."""

    workload: str
    group: str
    tiers: tuple[Place, ...]
    site: str | None = None

    @property
    def spot(self) -> Spot:
        """Whose samples."""
        return self.group, self.site

    @property
    def name(self) -> str:
        """In messages."""
        return f"{self.workload} of {spot_name(self.spot)}"


class Score(NamedTuple):
    """How good a placement is, the smaller the better: first the share of samples that are lost, then by how much
    limits are exceeded, as a share of each, then the value of the objective."""

    lost: float
    over: float
    value: float


UNKNOWN = Score(math.inf, math.inf, math.inf)
"""Of a placement in which something takes what nobody has measured."""

Judge = Callable[[Mapping[int, Place]], Score]
"""Judges stages, by their indices, on tiers, as if there were no others; sites of a group of which others are among
them are where the topology has them."""


@dataclass(frozen=True)
class StreamProblem:
    """Stages, in the order of the file, but none before those whose decisions it waits for, and who judges them."""

    stages: tuple[Stage, ...]
    judge: Judge


@dataclass(frozen=True)
class StreamDecision:
    """A tier for each stage. proven: whether no placement is better; None where the policy does not say."""

    tiers: tuple[Place, ...]
    proven: bool | None = None


StreamPolicy = Callable[[StreamProblem, np.random.Generator], StreamDecision]
"""All chance comes from the generator."""
