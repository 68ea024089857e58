"""What the cloud announces over MQTT."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from cloud.node import CloudNode
from cloud.registry import Registry
from edgebench.fabric import topics
from edgebench.fabric.brokers import BrokerSettings, make_broker
from edgebench.fabric.brokers.server import Broker
from edgebench.fabric.endpoints import parse_broker_url
from edgebench.fabric.mqtt import ANNOUNCED_AGAIN_S, Connection
from edgebench.fabric.reactor import Reactor
from edgebench.inference.spec import TensorSpec
from edgebench.topology import resolve
from edgebench.topology.model import Fixed, NodeGroup, Online, Placing, Topology, Workload
from tests.manifests import manifest_of

NODES = {
    "cloud": NodeGroup(tier="cloud"),
    "hub": NodeGroup(tier="edge", parent="cloud"),
    "room": NodeGroup(tier="device", parent="hub"),
}
TOPOLOGY = Topology(
    schema=1,
    name="t",
    nodes=NODES,
    workloads={"w": Workload(task="occupancy", source="room", load=Fixed(rate_hz=1.0))},
)


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    with make_broker(BrokerSettings("b", tmp_path / "broker")) as running:
        yield running


def test_a_broker_that_has_forgotten_all_is_told_of_the_model_again(broker: Broker, tmp_path: Path) -> None:
    model = manifest_of(b"a", task="occupancy", input=TensorSpec("float32", (10, 5)))
    deployment = resolve(TOPOLOGY, run_id="r", executor="local")
    node = CloudNode(deployment, broker.url, Registry(tmp_path / "registry"), lambda _entry: None, tmp_path)
    reactor, heard = Reactor(), list[bytes]()

    def hear(_topic: str, body: bytes) -> None:
        heard.append(body)
        if len(heard) == 2:
            broker.process.kill()
            broker.process.wait(30.0)
            for left in broker._files():
                if left.is_dir():
                    shutil.rmtree(left)
            broker.launch_again()
        elif len(heard) == 3:
            reactor.stop()

    def is_up() -> None:
        if not heard:
            node.start()

    hub = Connection(reactor, parse_broker_url(broker.url), "hub", on_message=hear, on_up=is_up, clean_session=True)
    hub.subscribe([topics.models("r", "w")], 1)
    hub.start()
    reactor.call_later(0.5, lambda: node.announce("w", model))
    reactor.call_later(60.0, reactor.stop)
    reactor.run()
    node.stop()
    hub.close()
    reactor.close()
    # What the broker had passed on and not acknowledged when it was killed may come once more, and at once.
    assert len(heard) >= 3
    assert set(heard) == {msgspec.json.encode(model)}


def test_a_model_is_announced_twice_unless_a_later_one_has_come(broker: Broker, tmp_path: Path) -> None:
    first, later = (manifest_of(each, task="occupancy", input=TensorSpec("float32", (10, 5))) for each in (b"a", b"b"))
    deployment = resolve(TOPOLOGY, run_id="r", executor="local")
    node = CloudNode(deployment, broker.url, Registry(tmp_path / "registry"), lambda _entry: None, tmp_path)
    reactor, heard = Reactor(), list[bytes]()

    def hear(_topic: str, body: bytes) -> None:
        heard.append(body)
        if len(heard) == 3:
            reactor.call_later(ANNOUNCED_AGAIN_S, reactor.stop)  # by when one too many would have come

    hub = Connection(reactor, parse_broker_url(broker.url), "hub", on_message=hear, on_up=node.start)
    hub.subscribe([topics.models("r", "w")], 1)
    hub.start()
    reactor.call_later(0.5, lambda: node.announce("w", first))
    reactor.call_later(0.6, lambda: node.announce("w", later))
    reactor.call_later(60.0, reactor.stop)
    reactor.run()
    node.stop()
    hub.close()
    reactor.close()
    assert heard == [msgspec.json.encode(each) for each in (first, later, later)]


def test_what_was_changed_on_its_way_is_counted_trials_too(broker: Broker, tmp_path: Path) -> None:
    online = msgspec.structs.replace(TOPOLOGY, place=Placing(online=Online()))
    deployment = resolve(online, run_id="r", executor="local")
    node = CloudNode(deployment, broker.url, Registry(tmp_path / "registry"), lambda _entry: None, tmp_path)
    for topic in (topics.forward("r", "hub", "w"), topics.trial("r", "hub", "w"), topics.trial("r", "hall", "w")):
        node._damaged(topic)
    assert node.tallies["w"].rejected == {"damaged": 2}
    node.start()
    node.stop()
