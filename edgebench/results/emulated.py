"""Nodes that were emulated: what they say of themselves, and whether this machine kept up with it."""

from __future__ import annotations

from collections.abc import Iterator

from edgebench.clock import NS_PER_MS
from edgebench.core.emulation import LATE_NS, LATE_SHARE, Releases
from edgebench.results.figures import EmulationFigures, NodeFigures
from edgebench.results.observations import Observations
from edgebench.results.stats import rounded
from edgebench.results.tolerances import (
    EMULATION_LATE_SHARE,
    EMULATION_LEAST_LATE,
    EMULATION_SLIP_SHARE,
    MOST_NODES_NAMED,
)
from edgebench.topology.deployment import Deployment, NodePlan
from edgebench.topology.profiles import HOST, ByDataSheet, Profile


def emulation_figures(deployment: Deployment, node: NodePlan, observations: Observations) -> EmulationFigures | None:
    """Of a node; None where nothing of it was emulated."""
    if node.profile == HOST:
        return None
    found = observations.released.get(node.name, Releases())
    profile = deployment.profiles[node.profile]
    return EmulationFigures(
        by="data sheet" if isinstance(profile.origin, ByDataSheet) else "measured",
        source=source_of(profile),
        released=found.n,
        mean_took_ms=rounded(found.took_ns / found.n / NS_PER_MS) if found.n else None,
        mean_slip_ms=rounded(found.slip_ns / found.n / NS_PER_MS) if found.n else None,
        most_slip_ms=rounded(found.most_slip_ns / NS_PER_MS) if found.n else None,
        late=found.late,
        unready=found.unready,
        beyond=found.beyond,
    )


def source_of(profile: Profile) -> str:
    """Where its figures come from, in words."""
    origin = profile.origin
    if isinstance(origin, ByDataSheet):
        return f"{origin.times_slower:g} times '{origin.like}': {origin.source}"
    return f"{origin.cpu or origin.machine}, {origin.at}"


def of_emulation(nodes: dict[str, NodeFigures]) -> Iterator[str]:
    """Reasons against a run that asked more of this machine than it could do in time."""
    reasons = [reason for name, node in nodes.items() for reason in _of_node(name, node)]
    yield from reasons[:MOST_NODES_NAMED]
    if len(reasons) > MOST_NODES_NAMED:
        yield f"{len(reasons) - MOST_NODES_NAMED} more emulated nodes were not as they should have been; see the nodes"


def _of_node(name: str, node: NodeFigures) -> Iterator[str]:
    found = node.emulated
    if found is None:
        return
    as_what = f"{name}, emulated as '{node.profile}',"
    mend = "use fewer nodes, a lower rate or a faster machine, or free this one"
    if found.late >= EMULATION_LEAST_LATE and found.late > EMULATION_LATE_SHARE * found.released:
        unready = f", {found.unready} batches because their work was not done by then" if found.unready else ""
        limit = f"more than {LATE_NS / NS_PER_MS:g} ms and {LATE_SHARE:.0%} of what it takes"
        yield (
            f"{as_what} released {found.late:,} of {found.released:,} too late ({limit}; at most "
            f"{EMULATION_LATE_SHARE:.0%} may be){unready}; {mend}"
        )
    elif (
        found.mean_slip_ms is not None
        and found.mean_took_ms is not None
        and found.mean_slip_ms > EMULATION_SLIP_SHARE * found.mean_took_ms
    ):
        yield (
            f"{as_what} was {found.mean_slip_ms:.3g} ms late on average with what it takes {found.mean_took_ms:.3g} ms "
            f"for (limit {EMULATION_SLIP_SHARE:.0%}); {mend}"
        )
    if found.beyond:
        yield (
            f"{as_what} had {found.beyond:,} messages that are larger than any its profile knows the time of; measure "
            "larger ones"
        )
