"""Whom a round asks, and for how long: one rule for the cloud, for edges that aggregate, for simulations, and for the
checks of a topology."""

from __future__ import annotations

from collections.abc import Sequence

from edgebench.seeds import rng_for
from edgebench.topology.model import Federated

OF_DEADLINE = 0.9
"""An edge's rounds together take at most this share of the cloud's deadline, so that its own answer is not late."""


def cohort_size(clients: int, fraction: float) -> int:
    """How many of the clients a round asks; as Flower counts them."""
    return max(int(clients * fraction), 1)


def cloud_fraction(how: Federated) -> float:
    """The share of its clients that the cloud asks in a round: all, where edges aggregate and draw their devices."""
    return 1.0 if "edge" in how.aggregate else how.fraction


def site_cohort(devices: Sequence[str], fraction: float, seed: int, edge: str, group: str) -> tuple[str, ...]:
    """The devices of a round that an edge holds, drawn by its name, in their order. seed: of the run."""
    count = cohort_size(len(devices), fraction)
    drawn = rng_for(seed, "site-cohort", edge, group).permutation(len(devices))[:count]
    return tuple(devices[index] for index in sorted(drawn))


def inner_group(group: str, inner: int) -> str:
    """The name of an edge's round within one of the cloud, from 1: the first is the one that the cloud would have held
    itself, with the same batches and the same models."""
    return group if inner == 1 else f"{group}.{inner}"
