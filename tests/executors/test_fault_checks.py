"""Faults that cannot come about where the nodes of a run are."""

from __future__ import annotations

import msgspec
import pytest

from edgebench.errors import TopologyError
from edgebench.executors.fault_checks import check_faults, full_disk_problems
from edgebench.topology.fault_model import FaultPlan
from tests.results.factory import deployment, placed, workload


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


@pytest.mark.parametrize(
    ("node", "place", "changes", "keeps"),
    [
        ("bed-0", "ward-0", {}, False),
        ("bed-0", "ward-0", {"durability": "process"}, True),
        ("bed-0", "bed-0", {"durability": "process"}, False),
        ("ward-0", "ward-0", {}, False),
        ("ward-0", "ward-0", {"durability": "process"}, True),
        ("ward-0", "cloud", {}, True),
    ],
)
def test_a_disk_is_filled_of_who_keeps_something_there(
    node: str, place: str, changes: dict[str, str], keeps: bool
) -> None:
    fault = FaultPlan("disk", 1.0, for_s=1.0, node=node, entry="faults[0]")
    plan = deployment(workload(deciders={"bed-0": place}))
    problems = list(full_disk_problems(msgspec.structs.replace(plan, faults=(fault, fault), **changes)))
    assert [path for path, _ in problems] == ([] if keeps else ["$.faults[0]"])


def test_a_disk_is_filled_on_the_machine_of_the_command_only() -> None:
    fault = FaultPlan("disk", 1.0, for_s=1.0, node="bed-0", entry="faults[0]")
    plan = msgspec.structs.replace(placed(deployment(), bed_0="pi-1"), faults=(fault,))
    with pytest.raises(TopologyError, match="'bed-0' is on pi-1, and a disk can be filled on the machine of the comm"):
        check_faults(plan, "t.yaml")


def test_faults_of_what_is_there_pass() -> None:
    plan = placed(deployment(), ward_0="pi-1", bed_0="pi-1")
    faults = (FaultPlan("kill", 1.0, machine="pi-1"), FaultPlan("kill", 1.0, node="bed-0"))
    check_faults(msgspec.structs.replace(plan, faults=faults), "t.yaml")
