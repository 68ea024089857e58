"""How many clients a round asks: one rule for the cloud, for edges that aggregate, and for the checks of a topology."""

from __future__ import annotations

from edgebench.topology.model import Federated


def cohort_size(clients: int, fraction: float) -> int:
    """How many of the clients a round asks; as Flower counts them."""
    return max(int(clients * fraction), 1)


def cloud_fraction(how: Federated) -> float:
    """The share of its clients that the cloud asks in a round: all, where edges aggregate and draw their devices."""
    return 1.0 if "edge" in how.aggregate else how.fraction
