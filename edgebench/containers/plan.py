"""Which containers and networks a deployment needs: one for each edge, one for each group of devices at a site."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from edgebench.lab.messages import RESERVED
from edgebench.topology.deployment import Deployment, Frozen, NodePlan, on_machines

ContainerKind = Literal["device", "edge"]
SERVER = "server"
"""Where the command is, in exports; no other container has this name."""
_LONGEST = 63
_CUT = 58


class ContainerPlan(Frozen, frozen=True):
    """One container. name: as a machine of the lab. sites: the edges whose networks it is in, its own first.

    memory_mb: the most that it may use, which is that of its nodes together; None: all that there is. steps: a fault
    steps its clock.
    """

    name: str
    kind: ContainerKind
    nodes: tuple[str, ...]
    sites: tuple[str, ...]
    memory_mb: int | None = None
    steps: bool = False


def containers_of(deployment: Deployment) -> tuple[ContainerPlan, ...]:
    """Edges first, in the order of the file."""
    found: list[ContainerPlan] = []
    names = {*RESERVED, SERVER}
    stepped = {fault.machine for fault in deployment.faults if fault.kind == "clock"}

    def add(wanted: str, kind: ContainerKind, nodes: Sequence[NodePlan], sites: tuple[str, ...]) -> None:
        name = _free(wanted, names)
        names.add(name)
        limits = [node.memory_mb for node in nodes if node.memory_mb is not None]
        memory_mb = sum(limits) if limits else None  # they are of one group
        hosted = tuple(node.name for node in nodes)
        found.append(ContainerPlan(name, kind, hosted, sites, memory_mb, steps=name in stepped))

    for edge in deployment.of_tier("edge"):
        add(edge.name, "edge", [edge], (edge.name,))
    together: dict[tuple[str, tuple[str, ...]], list[NodePlan]] = {}
    for device in deployment.of_tier("device"):
        # Devices that move are where they can move to, and apart from those that do not.
        together.setdefault((device.group, device.sites), []).append(device)
    for (group, sites), devices in together.items():
        add(f"{sites[0]}-{group}", "device", devices, sites)
    return tuple(found)


def in_containers(deployment: Deployment) -> Deployment:
    """The deployment with each node's container as its machine; the cloud stays here."""
    containers = containers_of(deployment)
    return on_machines(deployment, {node: each.name for each in containers for node in each.nodes})


def _free(wanted: str, names: set[str]) -> str:
    """As wanted, or with a number where that is taken or too long."""
    if len(wanted) <= _LONGEST and wanted not in names:
        return wanted
    number = 2
    while (name := f"{wanted[:_CUT].rstrip('-')}-{number}") in names:
        number += 1
    return name
