"""How long a device waits for decisions before it writes their samples down as lost."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from edgebench.clock import NS_PER_S
from edgebench.core.lanes import delays_ms
from edgebench.topology.deployment import Deployment, LinkPlan, WorkloadPlan
from edgebench.topology.fault_model import TAKES
from edgebench.topology.link_model import LinkChange
from edgebench.topology.reach import Reach

LONGEST_DRAIN_S = 120.0
"""From the last sample due to the last decision that is waited for, whatever is known. The cloud waits as long."""

LEAST_S = 5.0
UNSEEN_S = 30.0
"""The least while nothing at all is known of how long a decision takes, since none has ever come."""

_MARGIN = 2.0
"""A wait as long as the longest that is known may be just too short."""


class Expected(msgspec.Struct, frozen=True):
    """What the deployment says of the way to the decision and back, of the workload's device with the longest.

    fixed_s: latency and jitter of its links both ways, and how long a batch waits to be filled. s_per_byte: for each
    byte of a sample (in a chain, too: how large what goes on is is known only with the models), on links with a rate,
    behind a sample of every other device that shares it. at_least_s: how long a decision is of use. back_s: from the
    start of the streams, when what a fault has taken away is there again, or a link's own outage is over. cut_s:
    likewise, by device, when something that all its decisions pass is taken away for good.
    """

    fixed_s: float = 0.0
    s_per_byte: float = 0.0
    at_least_s: float = 0.0
    back_s: float = 0.0
    cut_s: dict[str, float] = {}


class DecisionTimeout:
    """What one stream waits for a decision, from what is expected and from what decisions have taken so far."""

    __slots__ = ("_expected", "_least_s", "largest_bytes", "slowest_ns")

    def __init__(self, expected: Expected, least_s: float = LEAST_S) -> None:
        self._expected = expected
        self._least_s = least_s
        self.slowest_ns = 0
        """The longest from a sample's capture to its decision."""
        self.largest_bytes = 0
        """Of the samples sent so far."""

    @property
    def quiet_ns(self) -> int:
        """So long without any decision, and none will come any more."""
        on_the_way_s = self._expected.fixed_s + self._expected.s_per_byte * self.largest_bytes
        quiet_s = max(
            self._least_s if self.slowest_ns else max(self._least_s, UNSEEN_S),
            _MARGIN * max(on_the_way_s, self.slowest_ns / NS_PER_S),
            self._expected.at_least_s,
        )
        return round(min(quiet_s, LONGEST_DRAIN_S) * NS_PER_S)

    @property
    def back_ns(self) -> int:
        """From the start of the streams, when decisions can come again."""
        return round(self._expected.back_s * NS_PER_S)


def expected_of(plan: WorkloadPlan, deployment: Deployment) -> Expected:
    """What a deployment says of a workload's decisions, for the device of which they have the longest way."""
    worst = _at_worst(deployment)
    ways = {name: tuple(_links_of(name, plan, deployment)) for name in plan.deciders}
    sharing: dict[str, int] = {}
    for way in ways.values():
        for pipe in {link.pipe for link in way}:
            sharing[pipe] = sharing.get(pipe, 0) + 1
    reach = Reach(plan, deployment) if deployment.faults else None
    back_s = [
        fault.at_s + fault.for_s
        for fault in deployment.faults
        if reach is not None and fault.at_s is not None and fault.for_s is not None and reach.devices(fault)
    ]
    crossed = {link.name: link for way in ways.values() for link in way}
    back_s += [_heard_again_s(link, deployment.duration_s) for link in crossed.values()]
    fixed_s = [sum(max(map(_round_trip_s, worst(link))) for link in way) for way in ways.values()]
    s_per_byte = [sum(max(map(_s_per_byte, worst(link))) * sharing[link.pipe] for link in way) for way in ways.values()]
    return Expected(
        fixed_s=plan.batch.max_wait_ms / 1e3 * (2 if plan.is_chain else 1) + max(fixed_s, default=0.0),
        s_per_byte=max(s_per_byte, default=0.0),
        at_least_s=(plan.deadline_ms or 0.0) / 1e3,
        back_s=max(back_s, default=0.0),
        cut_s=_cut_s(plan, deployment),
    )


def _at_worst(deployment: Deployment) -> Callable[[LinkPlan], list[LinkPlan]]:
    """What a link is, and what faults make of it."""
    changes: dict[str, list[LinkChange]] = {}
    for fault in deployment.faults:
        if fault.link is not None and fault.to is not None:
            changes.setdefault(fault.link, []).append(fault.to)
    return lambda link: [link, *map(link.changed, changes.get(link.name, ()))]


def _cut_s(plan: WorkloadPlan, deployment: Deployment) -> dict[str, float]:
    """When which device is cut off for good from all that decides its samples."""
    taken = [fault for fault in deployment.faults if fault.kind in TAKES and fault.for_s is None]
    cuts = [fault for fault in taken if fault.at_s is not None]
    cut_s: dict[str, float] = {}
    reach = Reach(plan, deployment, whole=False) if cuts else None
    for fault in cuts:
        assert reach is not None
        assert fault.at_s is not None
        for device in reach.devices(fault):
            cut_s[device] = min(fault.at_s, cut_s.get(device, fault.at_s))
    return cut_s


def _links_of(device: str, plan: WorkloadPlan, deployment: Deployment) -> list[LinkPlan]:
    """Those between a device and what decides its samples at last, at any site that it is at."""
    node = deployment.nodes[device]
    if plan.deciders[device] == device:
        return []
    to_cloud = plan.goes_on or plan.deciders[device] == deployment.cloud
    links = [deployment.links[f"{device} -> {edge}"] for edge in node.sites]
    if to_cloud:
        links += [deployment.links[f"{edge} -> {deployment.nodes[edge].parent}"] for edge in node.sites]
    return links


def _round_trip_s(link: LinkPlan) -> float:
    return 2 * max(link.latency_ms + link.jitter_ms, *delays_ms(link)) / 1e3


def _heard_again_s(link: LinkPlan, duration_s: float) -> float:
    """When TCP has sent again what was lost in the last outage: it doubles the time from one try to the next, so that
    the first try after an outage may come as late again."""
    last = [
        (each.at_s + (0.0 if each.every_s is None else (duration_s - each.at_s) // each.every_s * each.every_s), each)
        for each in link.outages
        if each.at_s < duration_s
    ]
    return max((at_s + 2 * (each.for_s or 0.0) for at_s, each in last), default=0.0)


def _s_per_byte(link: LinkPlan) -> float:
    return 0.0 if link.up_mbit_s is None else 8e-6 / link.up_mbit_s
