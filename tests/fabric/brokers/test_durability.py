"""What of a broker outlives it, by what it is told: with real servers that end and are started again."""

from __future__ import annotations

import queue
from pathlib import Path

import pytest

from edgebench.fabric.brokers import BrokerSettings, make_broker
from edgebench.fabric.brokers.server import Kind
from edgebench.topology.model import Durability
from tests.fabric.brokers.clients import WAIT_S, Client

KINDS: list[Kind] = ["mosquitto", "nats"]


@pytest.mark.parametrize("durability", ["process", "power"])
@pytest.mark.parametrize("kind", KINDS)
def test_what_waits_for_a_session_outlives_a_broker_that_ends_in_good_order(
    kind: Kind, durability: Durability, mosquitto: Path, tmp_path: Path
) -> None:
    broker = make_broker(BrokerSettings("site", tmp_path / "broker", durability=durability), kind)
    with broker:
        away = Client(broker.url, "away", clean_session=False)
        assert away.subscribe("t", 1)
        away.close()
        sender = Client(broker.url, "sender")
        sender.client.publish("t", b"kept", 1).wait_for_publish(WAIT_S)
        sender.client.publish("retained", b"kept, too", 1, retain=True).wait_for_publish(WAIT_S)
        assert sender.hears_retained("retained") == b"kept, too"
        sender.close()
        broker.process.end()
        broker.launch_again()
        broker.until_up()
        back = Client(broker.url, "away", clean_session=False)
        assert back.received.get(timeout=WAIT_S) == b"kept"
        assert back.hears_retained("retained") == b"kept, too"
        back.close()
    assert [path.name for path in (tmp_path / "broker").iterdir()] == ["site.log"]


def test_without_a_promise_mosquitto_writes_nothing_and_begins_anew(mosquitto: Path, tmp_path: Path) -> None:
    broker = make_broker(BrokerSettings("site", tmp_path / "broker"), "mosquitto")
    with broker:
        sender = Client(broker.url, "sender")
        sender.client.publish("retained", b"gone", 1, retain=True).wait_for_publish(WAIT_S)
        sender.close()
        broker.process.end()
        assert not (tmp_path / "broker" / "site.store").exists()
        broker.launch_again()
        broker.until_up()
        hearer = Client(broker.url, "hearer")
        assert hearer.subscribe("retained", 0)
        hearer.client.publish("retained", b"live", 0)
        assert hearer.received.get(timeout=WAIT_S) == b"live"
        with pytest.raises(queue.Empty):
            hearer.received.get(block=False)
        hearer.close()
