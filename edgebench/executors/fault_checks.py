"""What only the placing of a run tells of its faults: whether their machines are there, and whether ours runs there."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from edgebench.errors import TopologyError
from edgebench.topology.deployment import HERE, Deployment
from edgebench.topology.fault_model import FaultPlan
from edgebench.topology.wording import did_you_mean, one_line


def check_faults(placed: Deployment, file: str | Path) -> None:
    """Raise one TopologyError with all faults of a placed deployment that cannot come about. file: what messages call
    the topology."""
    lines = dict.fromkeys(f"{file}: $.{plan.entry}: {why}" for plan in placed.faults for why in _problems(placed, plan))
    if lines:
        raise TopologyError([one_line(line) for line in lines])


def _problems(placed: Deployment, plan: FaultPlan) -> Iterator[str]:
    if plan.node is not None and (board := placed.nodes[plan.node].board) is not None:
        yield f"'{plan.node}' is played by {board}, on which nothing of ours runs (name another node)"
    if plan.machine == HERE:
        yield f"'{HERE}' is the machine of the command, which steers the run (name another)"
    elif plan.machine is not None:
        machines = sorted({node.machine for node in placed.nodes.values() if node.board is None} - {HERE})
        if plan.machine not in machines:
            yield f"no node of this run is on a machine '{plan.machine}'{did_you_mean(plan.machine, machines)}"
