"""The executors: a plan of a run's parts, and the machines on which it is carried out."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from edgebench.executors.execution import RunInputs
from edgebench.executors.here import ThisMachine
from edgebench.executors.machine import Machine
from edgebench.fabric.records import Spool
from edgebench.topology.deployment import HERE


def _this_machine(inputs: RunInputs, spool: Spool) -> dict[str, Machine]:
    return {HERE: ThisMachine(inputs.run_dir, spool.write)}


EXECUTORS: dict[str, Callable[[RunInputs, Spool], Mapping[str, Machine]]] = {"local": _this_machine}
"""By the name that topologies and results call them: what gives the machines of a run. What each enforces:
`edgebench.topology.enforceable`."""
