"""Which containers there are, what each hosts and reaches, and how much memory it has."""

from __future__ import annotations

from edgebench.containers.plan import ContainerPlan, containers_of, in_containers
from edgebench.topology.fault_model import Fault
from edgebench.topology.model import Move, NodeGroup
from tests.containers.deployments import deployment


def test_an_edge_has_a_container_and_so_have_the_devices_of_a_group_at_a_site() -> None:
    assert containers_of(deployment()) == (
        ContainerPlan("ward-0", "edge", ("ward-0",), ("ward-0",), 500),
        ContainerPlan("ward-1", "edge", ("ward-1",), ("ward-1",), 500),
        ContainerPlan("ward-0-bed", "device", ("bed-0", "bed-2", "bed-4"), ("ward-0",), 300),
        ContainerPlan("ward-1-bed", "device", ("bed-1", "bed-3"), ("ward-1",), 200),
    )


def test_groups_are_apart_and_without_a_limit_a_container_may_use_all_memory() -> None:
    nodes = {
        "home": NodeGroup(tier="edge", parent="cloud"),
        "lamp": NodeGroup(tier="device", count=2, parent="home"),
        "door": NodeGroup(tier="device", parent="home", memory_mb=80),
    }
    found = {each.name: (each.nodes, each.memory_mb) for each in containers_of(deployment(nodes, sources=("lamp",)))}
    assert found == {
        "home": (("home",), None),
        "home-lamp": (("lamp-0", "lamp-1"), None),
        "home-door": (("door",), 80),
    }


def test_a_device_that_moves_is_in_the_networks_of_its_sites_and_the_others_stay_in_theirs() -> None:
    found = {
        each.name: (each.nodes, each.sites)
        for each in containers_of(deployment(moves=(Move(node="bed-0", to="ward-1", at_s=3.0),)))
        if each.kind == "device"
    }
    assert found == {
        "ward-0-bed": (("bed-0",), ("ward-0", "ward-1")),
        "ward-1-bed": (("bed-1", "bed-3"), ("ward-1",)),
        "ward-0-bed-2": (("bed-2", "bed-4"), ("ward-0",)),
    }


def test_a_container_has_a_clock_of_its_own_where_a_fault_steps_it() -> None:
    faults = (
        Fault(kind="clock", machine="ward-1-bed", at_s=3.0, by_ms=40.0),
        Fault(kind="kill", machine="ward-0", at_s=4.0),
    )
    assert [each.name for each in containers_of(deployment(faults=faults)) if each.steps] == ["ward-1-bed"]


def test_names_of_containers_differ_and_are_short_enough_for_machines() -> None:
    site, group = "s" * 60, "g" * 60
    nodes = {
        site: NodeGroup(tier="edge", parent="cloud"),
        "here": NodeGroup(tier="edge", parent="cloud"),
        "server": NodeGroup(tier="edge", parent="cloud"),
        group: NodeGroup(tier="device", parent=site),
    }
    names = [each.name for each in containers_of(deployment(nodes, sources=(group,)))]
    assert names == [site, "here-2", "server-2", f"{site[:58]}-2"]


def test_all_but_the_cloud_are_in_containers() -> None:
    placed = {node.name: node.machine for node in in_containers(deployment()).nodes.values()}
    assert placed["cloud"] == "here"
    assert placed["ward-1"] == "ward-1"
    assert placed["bed-2"] == "ward-0-bed"
