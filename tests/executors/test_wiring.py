"""Routes across shaped links, and what each node is told."""

from __future__ import annotations

from edgebench.executors.wiring import Wiring, crossings
from edgebench.topology import resolve
from edgebench.topology.model import Link, NodeGroup, Place, Poisson, Topology, Workload

BROKERS = {"cloud": "mqtt://127.0.0.1:1000", "ward-0": "mqtt://127.0.0.1:1001", "ward-1": "mqtt://127.0.0.1:1002"}


def wiring(*links: Link, infer: str = "edge", brokers: dict[str, str] = BROKERS) -> Wiring:
    topology = Topology(
        schema=1,
        name="t",
        nodes={
            "cloud": NodeGroup(tier="cloud"),
            "ward": NodeGroup(tier="edge", count=2, parent="cloud"),
            "bed": NodeGroup(tier="device", count=2, parent="ward"),
        },
        links=links,
        workloads={"w": Workload(task="icu-death", source="bed", load=Poisson(rate_hz=1.0), place=Place(infer=infer))},  # type: ignore[arg-type]
    )
    deployment = resolve(topology, run_id="r", executor="local")
    return Wiring(deployment, crossings(deployment), brokers, one_broker=False, control_url="http://127.0.0.1:2000")


def through(route: str) -> tuple[str, int]:
    """Each route listens at a port that tells it."""
    return "127.0.0.1", 5000 + sum(route.encode())


UPLINK = Link(between=("ward", "cloud"), latency_ms=20.0)
RADIO = Link(between=("bed", "ward"), latency_ms=2.0)


def test_without_shaped_links_everyone_connects_directly() -> None:
    wires = wiring()
    assert wires.routes() == []
    endpoints = wires.endpoints(through)
    assert endpoints["bed-1"].broker == "mqtt://127.0.0.1:1002"
    assert (endpoints["ward-0"].broker, endpoints["ward-0"].uplink) == (
        "mqtt://127.0.0.1:1001",
        "mqtt://127.0.0.1:1000",
    )
    assert {each.models for each in endpoints.values()} == {"http://127.0.0.1:2000"}


def test_an_edge_crosses_its_uplink_for_the_clouds_broker_and_for_models_but_not_for_its_own_broker() -> None:
    wires = wiring(UPLINK)
    crossing = {route.name: (route.via, route.port) for route in wires.routes()}
    assert crossing["mqtt:ward-1:cloud"] == (("ward-1 -> cloud",), 1000)
    assert crossing["http:ward-1"] == (("ward-1 -> cloud",), 2000)
    endpoints = wires.endpoints(through)
    assert endpoints["ward-1"].broker == "mqtt://127.0.0.1:1002"
    assert endpoints["ward-1"].uplink == "mqtt://{}:{}".format(*through("mqtt:ward-1:cloud"))
    assert endpoints["bed-0"].broker == "mqtt://127.0.0.1:1001"


def test_a_device_that_decides_itself_fetches_its_models_across_both_links() -> None:
    crossing = {route.name: route.via for route in wiring(UPLINK, RADIO, infer="device").routes()}
    assert crossing["http:bed-1"] == ("bed-1 -> ward-1", "ward-1 -> cloud")
    assert crossing["mqtt:bed-1:ward-1"] == ("bed-1 -> ward-1",)


def test_a_device_that_decides_nothing_fetches_no_model() -> None:
    assert "http:bed-0" not in {route.name for route in wiring(UPLINK, RADIO).routes()}


def test_a_login_survives_the_detour_and_tls_is_marked_opaque() -> None:
    secured = dict.fromkeys(BROKERS, "mqtts://ann:secret@127.0.0.1:8883")
    wires = wiring(RADIO, brokers=secured)
    assert {route.protocol for route in wires.routes()} == {"opaque"}
    assert wires.endpoints(through)["bed-0"].broker.startswith("mqtts://ann:secret@127.0.0.1:")
