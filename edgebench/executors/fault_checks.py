"""What only the placing of a run tells of its faults: whether their machines are there, and whether ours runs there."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from edgebench.core.routing import roles_at
from edgebench.errors import TopologyError
from edgebench.executors.disks import why_not
from edgebench.topology.deployment import HERE, Deployment
from edgebench.topology.fault_model import FaultPlan
from edgebench.topology.wording import did_you_mean, one_line


def check_faults(placed: Deployment, file: str | Path) -> None:
    """Raise one TopologyError with all faults of a placed deployment that cannot come about. file: what messages call
    the topology."""
    no_disk = why_not() if any(plan.kind == "disk" for plan in placed.faults) else None
    found = ((plan, why) for plan in placed.faults for why in _problems(placed, plan, no_disk))
    lines = dict.fromkeys(f"{file}: $.{plan.entry}: {why}" for plan, why in found)
    if lines:
        raise TopologyError([one_line(line) for line in lines])


def full_disk_problems(deployment: Deployment) -> Iterator[tuple[str, str]]:
    """Entries that fill the disk of a node which keeps nothing there: (path, problem), one such node of each."""
    fills = [(plan.entry, plan.node) for plan in deployment.faults if plan.kind == "disk" and plan.node is not None]
    mend = "give durability: process" if deployment.durability == "none" else "name another node"
    for entry, node in {entry: node for entry, node in fills if not _keeps(deployment, node)}.items():
        yield f"$.{entry}", f"'{node}' keeps nothing on disk ({mend}, or remove the fault)"


def _keeps(deployment: Deployment, name: str) -> bool:
    """Whether any sample is kept at a node."""
    node, promised = deployment.nodes[name], deployment.durability != "none"
    for plan in deployment.workloads.values():
        if node.tier == "device" and promised and plan.deciders.get(name, name) != name:
            return True
        if node.tier == "edge":
            roles = roles_at(node, plan)
            upward = bool(roles.forwarded) or (bool(roles.decided) and plan.goes_on)
            if (promised and roles.decided) or (upward and plan.qos):
                return True
    return False


def _problems(placed: Deployment, plan: FaultPlan, no_disk: str | None) -> Iterator[str]:
    """no_disk: why none can be filled on this machine; None where one can."""
    if plan.kind == "disk" and plan.node is not None:
        machine = placed.nodes[plan.node].machine
        if machine != HERE:
            yield f"'{plan.node}' is on {machine}, and a disk can be filled on the machine of the command only"
        elif no_disk is not None:
            yield f"the disk of a node cannot be filled here: {no_disk} (remove the fault)"
    if plan.node is not None and (board := placed.nodes[plan.node].board) is not None:
        yield f"'{plan.node}' is played by {board}, on which nothing of ours runs (name another node)"
    if plan.machine == HERE:
        yield f"'{HERE}' is the machine of the command, which steers the run (name another)"
    elif plan.machine is not None:
        machines = sorted({node.machine for node in placed.nodes.values() if node.board is None} - {HERE})
        if plan.machine not in machines:
            yield f"no node of this run is on a machine '{plan.machine}'{did_you_mean(plan.machine, machines)}"
