"""Nodes that were emulated: what they say of themselves, and whether this machine kept up with it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from edgebench.clock import NS_PER_MS
from edgebench.core.releases import LATE_NS, LATE_SHARE, Releases
from edgebench.results.figures import EmulationFigures, NodeFigures
from edgebench.results.observations import Observations
from edgebench.results.stats import rounded
from edgebench.results.tolerances import (
    EMULATION_CHANCE,
    EMULATION_LATE_SHARE,
    EMULATION_LEAST_LATE,
    EMULATION_SLIP_SHARE,
    MOST_NODES_NAMED,
)
from edgebench.topology.deployment import Deployment, NodePlan, is_simulated
from edgebench.topology.profiles import HOST, ByDataSheet, Profile

RELEASES = 4
"""As often at most a node holds up a decision: it takes a sample in, decides, passes on and answers."""


def emulation_figures(deployment: Deployment, node: NodePlan, observations: Observations) -> EmulationFigures | None:
    """Of a node; None where nothing of it was emulated."""
    if node.profile == HOST or is_simulated(deployment):
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
        largest_bytes=found.largest_bytes,
    )


def source_of(profile: Profile) -> str:
    """Where its figures come from, in words."""
    origin = profile.origin
    if isinstance(origin, ByDataSheet):
        return f"{origin.times_slower:g} times '{origin.like}': {origin.source}"
    return f"{origin.cpu or origin.machine}, {origin.at}"


def of_emulation(nodes: Mapping[str, NodeFigures], least_latency_ms: Mapping[str, float]) -> Iterator[str]:
    """Reasons against a run that asked more of this machine than it could do in time.

    least_latency_ms: by node, the mean of the workload that has the least of those that pass it, if any was decided.
    """
    alike: dict[str, dict[str, EmulationFigures]] = {}
    for name, node in nodes.items():
        if node.emulated is not None:
            alike.setdefault(node.profile, {})[name] = node.emulated
    reasons = [reason for profile, found in alike.items() for reason in _of_alike(profile, found, least_latency_ms)]
    yield from reasons[:MOST_NODES_NAMED]
    if len(reasons) > MOST_NODES_NAMED:
        yield f"{len(reasons) - MOST_NODES_NAMED} more emulated nodes were not as they should have been; see the nodes"


def _of_alike(profile: str, nodes: dict[str, EmulationFigures], least_latency_ms: Mapping[str, float]) -> Iterator[str]:
    """nodes: all that are emulated as the same."""
    late, released = (sum(getattr(each, name) for each in nodes.values()) for name in ("late", "released"))
    as_profile = f"emulated as '{profile}',"
    together = late >= EMULATION_LEAST_LATE and late > EMULATION_LATE_SHARE * released
    if together:
        who = next(iter(nodes)) if len(nodes) == 1 else f"{len(nodes)} nodes"
        yield _too_late(f"{who}, {as_profile}", late, released, sum(each.unready for each in nodes.values()))
    for name, found in nodes.items():
        as_what = f"{name}, {as_profile}"
        share_ms = least_latency_ms.get(name, 0.0) / RELEASES
        if not together and _beyond_chance(found):
            yield _too_late(as_what, found.late, found.released, found.unready)
        elif (
            found.mean_slip_ms is not None
            and found.mean_took_ms is not None
            and found.mean_slip_ms > EMULATION_SLIP_SHARE * max(found.mean_took_ms, share_ms)
        ):
            yield (
                f"{as_what} was {found.mean_slip_ms:.3g} ms late on average with what it takes "
                f"{found.mean_took_ms:.3g} ms for (limit {EMULATION_SLIP_SHARE:.0%} of that, or of a quarter of the "
                f"least mean latency of what passes it, {share_ms:.3g} ms); {_MEND}"
            )
        if found.beyond:
            yield (
                f"{as_what} had {found.beyond:,} messages that are larger than any its profile knows the time of; "
                f"measure larger ones: edgebench profile --message-bytes {found.largest_bytes}"
            )


def _too_late(who: str, late: int, released: int, unready: int) -> str:
    why = f", {unready} batches because their work was not done by then" if unready else ""
    limit = f"more than {LATE_NS / NS_PER_MS:g} ms and {LATE_SHARE:.0%} of what it takes"
    share = f"at most {EMULATION_LATE_SHARE:.0%} may be"
    return f"{who} released {late:,} of {released:,} too late ({limit}; {share}){why}; {_MEND}"


def _beyond_chance(found: EmulationFigures) -> bool:
    """Whether one of many nodes, of which some have more bad luck than others, has more than luck explains."""
    from scipy.special import bdtrc

    if found.late < EMULATION_LEAST_LATE:
        return False
    return bool(bdtrc(found.late - 1, found.released, EMULATION_LATE_SHARE) < EMULATION_CHANCE)


_MEND = "use fewer nodes, a lower rate or a faster machine, or free this one"
