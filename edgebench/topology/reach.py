"""Whose decisions have to pass a thing that a fault can happen to."""

from __future__ import annotations

from collections.abc import Iterator

from edgebench.topology.deployment import Deployment, WorkloadPlan
from edgebench.topology.fault_model import FaultPlan, FaultTarget

Thing = tuple[FaultTarget, str]


class Reach:
    """Of one workload."""

    def __init__(self, plan: WorkloadPlan, deployment: Deployment, *, whole: bool = True) -> None:
        """whole: what any decision may pass counts, the cloud where only some go there and each site of a device that
        moves too; else only what all decisions of a device pass, without devices that move."""
        self._devices: dict[Thing, dict[str, None]] = {}
        for device in plan.deciders:
            if not whole and len(deployment.nodes[device].sites) > 1:
                continue  # it may be elsewhere by then
            for thing in _passed(device, plan, deployment, whole=whole):
                self._devices.setdefault(thing, {})[device] = None

    def devices(self, fault: FaultPlan) -> tuple[str, ...]:
        """The source devices whose decisions have to pass what it happens to."""
        return tuple(self._devices.get(fault.thing, ()))


def nodes_passed(plan: WorkloadPlan, deployment: Deployment) -> frozenset[str]:
    """Whom a workload's samples and decisions may pass, their devices included."""
    things = (thing for device in plan.deciders for thing in _passed(device, plan, deployment, whole=True))
    return frozenset(name for kind, name in things if kind == "node")


def _passed(device: str, plan: WorkloadPlan, deployment: Deployment, *, whole: bool) -> Iterator[Thing]:
    nodes = deployment.nodes
    yield from (("site", site) for site in nodes[device].sites)
    hosts = [device]
    if plan.deciders[device] != device:
        may = plan.cascade is not None or plan.online is not None
        cloud = plan.deciders[device] == deployment.cloud or plan.head_at_edge or (whole and may)
        for site in nodes[device].sites:
            hosts.append(site)
            yield "link", f"{device} -> {site}"
            yield "broker", site
            if cloud:
                yield "link", f"{site} -> {nodes[site].parent}"
        if cloud:
            hosts.append(deployment.cloud)
            yield "broker", deployment.cloud
    for host in hosts:
        yield "node", host
        yield "machine", nodes[host].machine
