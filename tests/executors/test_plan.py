"""Which parts a run has, who connects to whom, and in which order they are started."""

from __future__ import annotations

from typing import Literal

import msgspec

from edgebench.executors import EXECUTORS
from edgebench.executors.plan import COMMAND, RELAY, Part, RunPlan, plan_of
from edgebench.topology import resolve
from edgebench.topology.deployment import SIMULATE
from edgebench.topology.enforceable import ENFORCED
from edgebench.topology.fault_model import Fault
from edgebench.topology.link_model import Link
from edgebench.topology.model import Broker, Federated, Move, NodeGroup, Place, Poisson, Topology, Workload

RADIO = Link(between=("bed", "ward"), latency_ms=2.0)
UPLINK = Link(between=("ward", "cloud"), latency_ms=20.0)


def plan(*links: Link, broker: Broker | None = None, infer: str = "edge", **more: object) -> RunPlan:
    """Two wards, with five beds and one chair between them."""
    topology = Topology(
        schema=1,
        name="t",
        nodes={
            "cloud": NodeGroup(tier="cloud"),
            "ward": NodeGroup(tier="edge", count=2, parent="cloud"),
            "bed": NodeGroup(tier="device", count=5, parent="ward"),
            "chair": NodeGroup(tier="device", parent="ward"),
        },
        links=links,
        workloads={"w": Workload(task="icu-death", source="bed", load=Poisson(rate_hz=1.0), place=Place(infer=infer))},  # type: ignore[arg-type]
        broker=broker or Broker(),
        **more,  # type: ignore[arg-type]
    )
    return plan_of(resolve(topology, run_id="r", executor="local"))


def learning(*aggregate: Literal["edge", "cloud"]) -> tuple[Federated, ...]:
    return (Federated(workload="w", rounds=1, aggregate=aggregate),)


def names(parts: tuple[Part, ...]) -> list[str]:
    return [part.name for part in parts]


def part(of: RunPlan, name: str) -> Part:
    return next(each for each in of.parts if each.name == name)


def test_each_edge_has_a_process_and_the_devices_of_a_group_at_a_site_share_one() -> None:
    hosts = {each.name: each.nodes for each in plan().of_kind("edge", "agent")}
    assert hosts == {
        "ward-0": ("ward-0",),
        "ward-1": ("ward-1",),
        "device agent of bed-0, bed-2, bed-4": ("bed-0", "bed-2", "bed-4"),
        "device agent of bed-1, bed-3": ("bed-1", "bed-3"),
        "device agent of chair": ("chair",),
    }


def test_there_is_one_cloud_and_a_broker_for_it_and_for_each_site() -> None:
    assert names(plan().of_kind("cloud")) == ["cloud"]
    assert names(plan().of_kind("broker")) == ["broker of cloud", "broker of ward-0", "broker of ward-1"]


def test_with_a_broker_of_the_users_own_there_is_none_to_start() -> None:
    with_it = plan(RADIO, broker=Broker(url="mqtt://ann:secret@example.org"))
    assert with_it.of_kind("broker") == ()
    assert with_it.stages()[0] == with_it.of_kind("relay")
    assert b"secret" not in msgspec.json.encode(with_it)


def test_there_is_a_relay_only_where_a_link_is_shaped_and_only_what_crosses_it_connects_to_it() -> None:
    assert plan().of_kind("relay") == ()
    assert plan(Link(between=("bed", "ward"))).of_kind("relay") == ()
    shaped = plan(UPLINK)
    assert set(part(shaped, RELAY).offers) == {
        "mqtt:ward-0:cloud",
        "http:ward-0:cloud",
        "mqtt:ward-1:cloud",
        "http:ward-1:cloud",
    }
    assert part(shaped, "ward-1").connects == {
        "mqtt:ward-1": 1,
        "mqtt:ward-1:cloud": 1,
        "http:ward-1:cloud": 1,
        "http:cloud": 2,
    }
    assert part(shaped, "device agent of bed-1, bed-3").connects == {"mqtt:ward-1": 2, "http:cloud": 2}


def test_a_link_that_only_a_fault_breaks_has_a_relay_and_its_faults_are_in_the_plan() -> None:
    broken = plan(faults=(Fault(at_s=1.0, kind="down", link="ward-0 -> cloud", for_s=2.0),))
    assert set(part(broken, RELAY).offers) == {"mqtt:ward-0:cloud", "http:ward-0:cloud"}
    (fault,) = broken.faults
    assert (fault.links, fault.parts) == (("ward-0 -> cloud",), ())


def test_a_device_that_a_fault_happens_to_has_a_process_of_its_own_and_a_site_is_all_that_is_there() -> None:
    faults = (
        Fault(at_s=1.0, kind="restart", node="bed-3", for_s=2.0),
        Fault(at_s=2.0, kind="kill", site="ward-1"),
        Fault(at_s=3.0, kind="restart", broker="ward-0", for_s=1.0),
    )
    broken = plan(faults=faults)
    assert {each.nodes for each in broken.of_kind("agent")} == {
        ("bed-0", "bed-2", "bed-4"),
        ("bed-1",),
        ("bed-3",),
        ("chair",),
    }
    assert [set(fault.parts) for fault in broken.faults] == [
        {"device agent of bed-3"},
        {"ward-1", "broker of ward-1", "device agent of bed-1", "device agent of bed-3"},
        {"broker of ward-0"},
    ]


def test_every_address_that_is_connected_to_is_offered_by_one_part() -> None:
    at_cloud, at_edges = learning("cloud"), learning("edge", "cloud")
    for each in (
        plan(),
        plan(RADIO),
        plan(RADIO, UPLINK, infer="device"),
        plan(federated=at_cloud),
        plan(RADIO, UPLINK, federated=at_cloud),
        plan(federated=at_edges),
        plan(RADIO, UPLINK, federated=at_edges),
    ):
        offered = [address for part in each.parts for address in part.offers]
        assert len(offered) == len(set(offered))
        assert {address for part in each.parts for address in part.connects} == set(offered)


def test_how_many_connections_each_part_holds_is_known_before_it_is_started() -> None:
    direct = plan()
    assert part(direct, "broker of ward-0").accepts == 5  # three beds, the chair, the edge
    assert part(direct, "broker of cloud").accepts == 3
    relayed = plan(RADIO)
    assert part(relayed, "broker of ward-0").accepts == 5
    assert part(relayed, RELAY).accepts == 5
    assert sum(part(relayed, RELAY).connects.values()) == 5


def test_clients_of_one_process_share_connections_unless_each_has_a_link_of_its_own() -> None:
    agent = "device agent of bed-0, bed-2, bed-4"
    direct = plan(federated=learning("cloud"))
    assert part(direct, agent).connects["http:cloud"] == 2 + 3
    assert part(plan(federated=learning("edge", "cloud")), agent).connects["http:ward-0"] == 3
    relayed = part(plan(RADIO, federated=learning("edge", "cloud")), agent).connects
    assert [relayed[f"http:bed-{n}:ward-0"] for n in (0, 2, 4)] == [1, 1, 1]
    assert part(plan(federated=learning("edge", "cloud")), "ward-0").connects["http:cloud"] == 2 + 1
    assert part(direct, "ward-0").offers == ()
    assert part(plan(federated=learning("edge", "cloud")), "ward-0").offers == ("http:ward-0",)


def test_a_device_that_moves_connects_to_both_sites() -> None:
    moving = plan(moves=(Move(at_s=1.0, node="chair", to="ward-1"),))
    assert part(moving, "device agent of chair").connects == {"mqtt:ward-0": 1, "mqtt:ward-1": 1, "http:cloud": 2}


def test_what_does_not_need_each_other_is_started_together() -> None:
    stages = [names(stage) for stage in plan().stages()]
    assert stages[-1] == ["cloud"]
    assert len(stages) == 2


def test_links_are_measured_before_any_node_is_started() -> None:
    first, rest = plan(RADIO).stages()
    assert {part.kind for part in first} == {"broker", "relay"}
    assert {part.kind for part in rest} == {"cloud", "edge", "agent"}


def test_children_are_started_by_the_part_whose_they_are() -> None:
    federated = plan(federated=(Federated(workload="w", rounds=1),))
    children = {each.name: each.started_by for each in federated.parts if each.started_by != COMMAND}
    assert children == {
        "trainer": "cloud",
        "federation of w": "cloud",
        "learner of device agent of bed-0, bed-2, bed-4": "device agent of bed-0, bed-2, bed-4",
        "learner of device agent of bed-1, bed-3": "device agent of bed-1, bed-3",
    }
    assert children.keys().isdisjoint(name for stage in federated.stages() for name in names(stage))
    assert part(federated, "broker of cloud").accepts == 4


def test_a_run_goes_on_without_an_agent_and_ends_without_anything_else_that_the_command_starts() -> None:
    by_command = [each for each in plan(RADIO).parts if each.started_by == COMMAND]
    assert {each.kind for each in by_command if each.fatal} == {"broker", "relay", "cloud", "edge"}
    assert {each.kind for each in by_command if not each.fatal} == {"agent"}


def test_a_plan_survives_being_written_and_read() -> None:
    whole = plan(RADIO, UPLINK, faults=(Fault(at_s=1.0, kind="down", link="ward-0 -> cloud", for_s=2.0),))
    assert msgspec.json.decode(msgspec.json.encode(whole), type=RunPlan) == whole


def test_every_executor_says_what_it_enforces() -> None:
    assert {*EXECUTORS, SIMULATE} == ENFORCED.keys()


def test_everything_runs_on_this_machine() -> None:
    assert {each.machine for each in plan(RADIO).parts} == {"here"}
