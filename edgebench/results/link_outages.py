"""The outages that links had by themselves, as faults that happened: what they cost is told like that of any other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from edgebench.clock import NS_PER_S
from edgebench.core.links import begins
from edgebench.fabric.records import Faulted
from edgebench.results.observations import Observations
from edgebench.topology.deployment import Deployment, LinkPlan
from edgebench.topology.fault_model import FaultPlan, OutageKind


@dataclass(frozen=True)
class LinkOutage:
    """An outage of all links between two groups of nodes, since one entry of the topology says so for all.

    asked_ns, at_ns: when it was to begin, and did; until_ns: when the links carried again (None: not before the end).
    All on the server's clock.
    """

    plan: FaultPlan
    links: tuple[LinkPlan, ...]
    asked_ns: int
    at_ns: int
    until_ns: int | None


def outages_in(deployment: Deployment, observations: Observations) -> Iterator[LinkOutage]:
    """Those that a run had."""
    groups: dict[tuple[str, str], list[LinkPlan]] = {}
    for link in deployment.links.values():
        if link.outages:
            groups.setdefault(_groups_of(link, deployment), []).append(link)
    if not groups or observations.started_ns is None:
        return
    steps: dict[str | None, list[Faulted]] = {}
    for step in sorted(observations.faults, key=lambda step: step.at_ns):
        if step.kind in ("silent", "again", "reset"):
            steps.setdefault(step.link, []).append(step)
    for names, links in groups.items():
        name = links[0].name if len(links) == 1 else " -> ".join(names)
        told = next((steps[link.name] for link in links if link.name in steps), [])  # a relay that died tells nothing
        asked = begins(links[0].outages, observations.started_ns)
        for (kind, at_ns, until_ns), (asked_ns, for_ns, _) in zip(_spans(told), asked, strict=False):
            asked_s = (asked_ns - observations.started_ns) / NS_PER_S
            plan = FaultPlan(kind, asked_s, for_s=for_ns / NS_PER_S, link=name, entry="links")
            yield LinkOutage(plan, tuple(links), asked_ns, at_ns, until_ns)


def _groups_of(link: LinkPlan, deployment: Deployment) -> tuple[str, str]:
    return deployment.nodes[link.child].group, deployment.nodes[link.parent].group


def _spans(steps: Sequence[Faulted]) -> Iterator[tuple[OutageKind, int, int | None]]:
    """Kind, beginning and end of each."""
    for place, step in enumerate(steps):
        if step.kind == "reset":
            yield "reset", step.at_ns, step.at_ns
        elif step.kind == "silent":
            yield "outage", step.at_ns, next((each.at_ns for each in steps[place:] if each.kind == "again"), None)
