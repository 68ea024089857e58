"""Routes across shaped links, and what each node is told."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
import pytest

from edgebench.executors.wiring import Sited, Wiring, crossings
from edgebench.fabric.endpoints import parse_broker_url
from edgebench.fabric.tls import Trust
from edgebench.topology import resolve
from edgebench.topology.deployment import HERE
from edgebench.topology.link_model import Link
from edgebench.topology.model import Federated, NodeGroup, Place, Poisson, Topology, Workload

PORTS = {
    "mqtt:cloud": 1000,
    "mqtt:ward-0": 1001,
    "mqtt:ward-1": 1002,
    "http:cloud": 2000,
    "http:ward-0": 2001,
    "http:ward-1": 2002,
}


class TwoMachines:
    """What is here is seen from the board at another address than from here."""

    passwords: Mapping[str, str] = {}
    trust: Trust | None = None

    def host(self, machine: str, seen_from: str) -> str:
        if machine == "pi":
            return "10.0.0.2"
        return "127.0.0.1" if seen_from == HERE else "10.0.0.1"


def wiring(
    *links: Link,
    infer: Any = "edge",
    external: str | None = None,
    secured: bool = False,
    federated: Federated | None = None,
    **machines: str,
) -> Wiring:
    """machines: node (with _ for -) -> that it is on."""
    topology = Topology(
        schema=1,
        name="t",
        nodes={
            "cloud": NodeGroup(tier="cloud"),
            "ward": NodeGroup(tier="edge", count=2, parent="cloud"),
            "bed": NodeGroup(tier="device", count=2, parent="ward"),
        },
        links=links,
        workloads={
            "w": Workload(
                task="icu-death",
                source="bed",
                load=Poisson(rate_hz=1.0),
                place=Place(infer),
                split=1 if isinstance(infer, tuple) else None,
            )
        },
        federated=() if federated is None else (federated,),
    )
    deployment = resolve(topology, run_id="r", executor="local")
    at = {name.replace("_", "-"): machine for name, machine in machines.items()}
    nodes = {name: msgspec.structs.replace(node, machine=at.get(name, HERE)) for name, node in deployment.nodes.items()}
    deployment = msgspec.structs.replace(deployment, nodes=nodes)
    found = crossings(deployment)
    sited = {each.name: Sited(each.machine, through(each.name)) for each in found}
    for address, port in PORTS.items():
        if external is None or address.startswith("http:"):
            sited[address] = Sited(nodes[address.partition(":")[2]].machine, port)
    broker = None if external is None else parse_broker_url(external)
    network = TwoMachines()
    if secured:
        network.passwords = {name: f"of-{name}" for name in nodes}
    return Wiring(deployment, found, sited, network, broker)


def through(crossing: str) -> int:
    """Each crossing begins at a port that tells it."""
    return 5000 + sum(crossing.encode())


UPLINK = Link(between=("ward", "cloud"), latency_ms=20.0)
RADIO = Link(between=("bed", "ward"), latency_ms=2.0)


def test_without_shaped_links_everyone_connects_directly() -> None:
    wires = wiring()
    assert wires.routes(HERE) == []
    endpoints = wires.endpoints()
    assert endpoints["bed-1"].broker == "mqtt://127.0.0.1:1002"
    assert (endpoints["ward-0"].broker, endpoints["ward-0"].uplink) == (
        "mqtt://127.0.0.1:1001",
        "mqtt://127.0.0.1:1000",
    )
    assert {each.models for each in endpoints.values()} == {"http://127.0.0.1:2000"}


def test_an_edge_crosses_its_uplink_for_the_clouds_broker_and_for_models_but_not_for_its_own_broker() -> None:
    wires = wiring(UPLINK)
    crossing = {route.name: (route.via, route.port) for route in wires.routes(HERE)}
    assert crossing["mqtt:ward-1:cloud"] == (("ward-1 -> cloud",), 1000)
    assert crossing["http:ward-1:cloud"] == (("ward-1 -> cloud",), 2000)
    endpoints = wires.endpoints()
    assert endpoints["ward-1"].broker == "mqtt://127.0.0.1:1002"
    assert endpoints["ward-1"].uplink == f"mqtt://127.0.0.1:{through('mqtt:ward-1:cloud')}"
    assert endpoints["bed-0"].broker == "mqtt://127.0.0.1:1001"


@pytest.mark.parametrize("infer", ["device", ("device", "edge"), ("device", "cloud")])
def test_a_device_that_has_a_model_fetches_it_across_both_links(infer: Any) -> None:
    crossing = {route.name: route.via for route in wiring(UPLINK, RADIO, infer=infer).routes(HERE)}
    assert crossing["http:bed-1:cloud"] == ("bed-1 -> ward-1", "ward-1 -> cloud")
    assert crossing["mqtt:bed-1:ward-1"] == ("bed-1 -> ward-1",)


@pytest.mark.parametrize("infer", ["edge", ("edge", "cloud")])
def test_a_device_that_decides_nothing_fetches_no_model(infer: Any) -> None:
    assert "http:bed-0:cloud" not in {route.name for route in wiring(UPLINK, RADIO, infer=infer).routes(HERE)}


AT_CLOUD = Federated(workload="w", rounds=1)
AT_EDGES = Federated(workload="w", rounds=1, aggregate=("edge", "cloud"))


def test_a_device_that_the_cloud_asks_fetches_and_hands_in_across_both_links() -> None:
    wires = wiring(UPLINK, RADIO, federated=AT_CLOUD)
    crossing = {route.name: (route.via, route.port) for route in wires.routes(HERE)}
    assert crossing["http:bed-1:cloud"] == (("bed-1 -> ward-1", "ward-1 -> cloud"), 2000)
    bed = wires.endpoints()["bed-1"]
    assert (bed.models, bed.site) == (f"http://127.0.0.1:{through('http:bed-1:cloud')}", None)


def test_a_device_that_its_edge_asks_fetches_and_hands_in_there_across_its_own_link() -> None:
    wires = wiring(UPLINK, RADIO, federated=AT_EDGES, ward_1="pi")
    here, there = ({route.name: (route.via, route.port) for route in wires.routes(at)} for at in (HERE, "pi"))
    assert there["http:bed-1:ward-1"] == (("bed-1 -> ward-1",), 2002)
    assert here["http:bed-0:ward-0"] == (("bed-0 -> ward-0",), 2001)
    assert here["http:ward-1:cloud"] == (("ward-1 -> cloud",), 2000)
    assert not any(name.startswith("http:bed") and "cloud" in name for name in here | there)
    endpoints = wires.endpoints()
    assert endpoints["bed-1"].site == f"http://10.0.0.2:{through('http:bed-1:ward-1')}"
    assert endpoints["ward-1"].site is None
    assert wiring(UPLINK, federated=AT_EDGES).endpoints()["bed-1"].site == "http://127.0.0.1:2002"
    secured = wiring(federated=AT_EDGES, secured=True, ward_1="pi").endpoints()
    assert secured["bed-1"].site == "https://10.0.0.2:2002?name=pi.edgebench.internal"


def test_clients_of_an_engine_of_flowers_cross_no_link() -> None:
    wires = wiring(UPLINK, RADIO, federated=Federated(workload="w", rounds=1, engine="ray"))
    ways = {route.name for route in wires.routes(HERE) if route.protocol == "http"}
    assert ways == {"http:ward-0:cloud", "http:ward-1:cloud"}


def test_a_login_survives_the_detour_and_tls_is_marked_opaque() -> None:
    wires = wiring(RADIO, external="mqtts://ann:secret@10.0.0.9:8883")
    assert {(route.protocol, route.host, route.port) for route in wires.routes(HERE)} == {("opaque", "10.0.0.9", 8883)}
    bed = wires.endpoints()["bed-0"]
    assert bed.broker.startswith("mqtts://ann:secret@127.0.0.1:")
    assert bed.one_broker


def test_links_are_emulated_where_their_parents_are_and_a_way_across_two_machines_is_a_chain() -> None:
    wires = wiring(UPLINK, RADIO, infer="device", ward_1="pi")
    chain = {route.name: (route.via, route.host, route.port) for route in wires.routes("pi")}
    assert chain["mqtt:bed-1:ward-1"] == (("bed-1 -> ward-1",), "10.0.0.2", 1002)
    onward = "http:bed-1:cloud@here"
    assert chain["http:bed-1:cloud"] == (("bed-1 -> ward-1",), "10.0.0.1", through(onward))
    here = {route.name: (route.via, route.port) for route in wires.routes(HERE)}
    assert here[onward] == (("ward-1 -> cloud",), 2000)
    assert here["http:bed-0:cloud"] == (("bed-0 -> ward-0", "ward-0 -> cloud"), 2000)
    endpoints = wires.endpoints()
    assert endpoints["bed-1"].models == f"http://10.0.0.2:{through('http:bed-1:cloud')}"
    assert endpoints["ward-1"].broker == "mqtt://10.0.0.2:1002"
    assert endpoints["ward-1"].uplink == f"mqtt://10.0.0.1:{through('mqtt:ward-1:cloud')}"


def test_off_loopback_each_node_has_a_login_and_knows_by_which_name_the_far_end_has_to_answer() -> None:
    wires = wiring(UPLINK, secured=True, ward_1="pi")
    assert {route.protocol for route in wires.routes(HERE)} == {"opaque"}
    endpoints = wires.endpoints()
    assert endpoints["bed-1"].broker == "mqtts://bed-1:of-bed-1@10.0.0.2:1002?name=pi.edgebench.internal"
    uplink, models = through("mqtt:ward-1:cloud"), through("http:ward-1:cloud")
    assert endpoints["ward-1"].uplink == f"mqtts://ward-1:of-ward-1@10.0.0.1:{uplink}?name=here.edgebench.internal"
    assert endpoints["ward-1"].models == f"https://10.0.0.1:{models}?name=here.edgebench.internal"
    assert wires.control_url("pi").url == "https://10.0.0.1:2000?name=here.edgebench.internal"


def test_only_where_the_cloud_is_a_node_need_not_compare_clocks() -> None:
    endpoints = wiring(ward_1="pi").endpoints()
    assert {node for node, each in endpoints.items() if not each.shares_clock} == {"ward-1"}
