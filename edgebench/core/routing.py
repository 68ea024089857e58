"""Who decides which device's samples."""

from __future__ import annotations

from typing import NamedTuple

from edgebench.topology.deployment import NodePlan, WorkloadPlan
from edgebench.topology.model import After, Move


class Roles(NamedTuple):
    """What an edge does with a workload's devices: those that it decides, passes on, and that decide themselves."""

    decided: tuple[str, ...]
    forwarded: tuple[str, ...]
    on_device: tuple[str, ...]


def roles_at(edge: NodePlan, plan: WorkloadPlan) -> Roles:
    """The roles of an edge, by its own devices and those that come to it; `plan.deciders` is as the edge sees it."""
    mine = [device for device in (*edge.children, *edge.elsewhere) if device in plan.deciders]
    return Roles(
        decided=tuple(device for device in mine if plan.deciders[device] == edge.name),
        forwarded=tuple(device for device in mine if plan.deciders[device] not in (edge.name, device)),
        on_device=tuple(device for device in mine if plan.deciders[device] == device),
    )


def is_sparse(plan: WorkloadPlan, moves: tuple[Move, ...]) -> bool:
    """Whether only some of a device's samples come to a node, so that gaps say nothing.

    Devices come and go, or have a sample only where those before it were decided.
    """
    return bool(moves) or isinstance(plan.load, After)
