"""Faults that cannot come about where the nodes of a run are."""

from __future__ import annotations

import msgspec
import pytest

from edgebench.errors import TopologyError
from edgebench.executors.fault_checks import check_faults
from edgebench.topology.fault_model import FaultPlan
from tests.results.factory import deployment, placed


@pytest.mark.parametrize(
    ("fault", "problem"),
    [
        (FaultPlan("kill", 1.0, machine="pi-2", entry="faults[0]"), "no node of this run is on a machine 'pi-2' (did"),
        (FaultPlan("kill", 1.0, machine="here", entry="faults[0]"), "'here' is the machine of the command"),
        (FaultPlan("kill", 1.0, node="bed-0", entry="chaos[0]"), "'bed-0' is played by esp-1, on which nothing of"),
    ],
)
def test_a_fault_of_what_is_not_there_is_one_line(fault: FaultPlan, problem: str) -> None:
    plan = placed(deployment(), ward_0="pi-1", bed_0="pi-1")
    nodes = {**plan.nodes, "bed-0": msgspec.structs.replace(plan.nodes["bed-0"], board="esp-1")}
    with pytest.raises(TopologyError) as caught:
        check_faults(msgspec.structs.replace(plan, nodes=nodes, faults=(fault, fault)), "t.yaml")
    (line,) = str(caught.value).splitlines()
    assert line.startswith(f"t.yaml: $.{fault.entry}: {problem}")


def test_faults_of_what_is_there_pass() -> None:
    plan = placed(deployment(), ward_0="pi-1", bed_0="pi-1")
    faults = (FaultPlan("kill", 1.0, machine="pi-1"), FaultPlan("kill", 1.0, node="bed-0"))
    check_faults(msgspec.structs.replace(plan, faults=faults), "t.yaml")
