"""Which links files and samples have in common between the nodes and the cloud, so that files go by turns there."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Iterator

from edgebench.clock import NS_PER_S
from edgebench.fabric.turns import Pace, Turns, Way
from edgebench.topology.deployment import Deployment, LinkPlan
from edgebench.topology.fault_model import FaultPlan
from edgebench.topology.link_model import LinkChange

_RATE: dict[Way, str] = {"up": "up_mbit_s", "down": "down_mbit_s"}


def links_with_samples(deployment: Deployment) -> dict[str, LinkPlan]:
    """The links that samples cross and that have rates, or are given some by a fault, by the node at their lower
    end."""
    carrying = {node for plan in deployment.workloads.values() for node in _below_samples(deployment, plan.name)}
    given = {link.pipe for link, _, _ in _degraded(deployment)}
    return {
        link.child: link
        for link in deployment.links.values()
        if link.child in carrying and (link.up_mbit_s is not None or link.down_mbit_s is not None or link.pipe in given)
    }


def ask_first(deployment: Deployment, nodes: Iterable[str], with_samples: Collection[str]) -> frozenset[str]:
    """Which of these nodes ask before they bring a file, however small, as samples may be on their way, or on that of
    the one above. with_samples: as of `links_with_samples`."""
    below = {*with_samples}
    return frozenset(node for node in nodes if below & {node, str(deployment.nodes[node].parent)})


def _below_samples(deployment: Deployment, workload: str) -> Iterator[str]:
    plan = deployment.workloads[workload]
    for device, decider in plan.deciders.items():
        if decider != device:
            yield device
            if plan.goes_on or decider == deployment.cloud:
                yield from deployment.nodes[device].sites


class LinkTurns:
    """See `edgebench.fabric.turns.TurnsOf`, for what the cloud serves."""

    def __init__(self, deployment: Deployment, streaming_since_ns: Callable[[], int | None]) -> None:
        """streaming_since_ns: when the streams began, on the cloud's clock; None while there are none."""
        self._deployment = deployment
        self._streaming_since_ns = streaming_since_ns
        self._links = links_with_samples(deployment)
        self._paces: dict[tuple[str, Way], Pace] = {}
        self._turns: dict[tuple[frozenset[str], Way], Turns | None] = {}

    def __call__(self, nodes: frozenset[str], way: Way) -> Turns | None:
        """See `TurnsOf`. Devices of one process share their site's uplink; of a device that is alone in its process its
        own link counts, too."""
        if not self._links or (start_ns := self._streaming_since_ns()) is None:
            return None
        if (nodes, way) not in self._turns:
            known = self._deployment.nodes
            above = {str(known[node].parent) for node in nodes if node in known}
            children = above | nodes if len(nodes) == 1 else above
            crossed = [self._links[child] for child in children if child in self._links]
            crossed.sort(key=lambda link: (known[link.child].tier != "device", link.pipe))
            found = (self._pace(link, way, start_ns / NS_PER_S) for link in crossed)
            paces = tuple(dict.fromkeys(pace for pace in found if pace is not None))
            self._turns[nodes, way] = Turns(paces) if paces else None
        return self._turns[nodes, way]

    def _pace(self, link: LinkPlan, way: Way, start_s: float) -> Pace | None:
        """Links of one pipe share its rates."""
        if (link.pipe, way) not in self._paces:
            rates = list(_rates(self._deployment, link, way, start_s))
            if all(rate is None for _, rate in rates):
                return None
            self._paces[link.pipe, way] = Pace(rates)
        return self._paces[link.pipe, way]


def _rates(deployment: Deployment, link: LinkPlan, way: Way, start_s: float) -> Iterator[tuple[float, float | None]]:
    """See `Pace`; of several faults the last to begin says what it is."""
    planned, changes = getattr(link, _RATE[way]), _changes(deployment, link, way)
    yield -math.inf, planned
    for at_s in sorted({at_s for begin_s, end_s, _ in changes for at_s in (begin_s, end_s) if at_s < math.inf}):
        now = [rate for begin_s, end_s, rate in changes if begin_s <= at_s < end_s]
        yield start_s + at_s, now[-1] if now else planned


def _changes(deployment: Deployment, link: LinkPlan, way: Way) -> list[tuple[float, float, float]]:
    """What faults make of the rate of a link's pipe, from when to when after the start, in the order in which they
    begin. When one comes that waits for a condition, nobody knows."""
    return sorted(
        (fault.at_s, fault.at_s + (math.inf if fault.for_s is None else fault.for_s), rate)
        for degraded, fault, change in _degraded(deployment)
        if degraded.pipe == link.pipe and fault.at_s is not None
        if (rate := getattr(change, _RATE[way])) is not None
    )


def _degraded(deployment: Deployment) -> Iterator[tuple[LinkPlan, FaultPlan, LinkChange]]:
    """The links whose rates faults change."""
    for fault in deployment.faults:
        change = fault.to
        if fault.link is None or change is None:
            continue
        if change.up_mbit_s is not None or change.down_mbit_s is not None:
            yield deployment.links[fault.link], fault, change
