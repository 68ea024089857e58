"""What a deployment says of the way to a workload's decisions and back. Devices are told: they need nothing of this."""

from __future__ import annotations

from collections.abc import Callable

from edgebench.core.lanes import delays_ms
from edgebench.core.timeouts import Expected
from edgebench.topology.deployment import Deployment, LinkPlan, WorkloadPlan
from edgebench.topology.fault_model import TAKES
from edgebench.topology.link_model import LinkChange
from edgebench.topology.reach import Reach


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
        fixed_s=plan.batch.max_wait_ms / 1e3 * (2 if plan.head_at_edge else 1) + max(fixed_s, default=0.0),
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
