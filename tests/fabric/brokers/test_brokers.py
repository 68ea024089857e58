"""The brokers that a run starts, each kind tested with a plain paho client against the real server."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from edgebench.clock import sleep_s
from edgebench.errors import FabricError
from edgebench.fabric.brokers import BrokerSettings, make_broker
from edgebench.fabric.brokers.nats import MAX_QOS1_FILTERS
from edgebench.fabric.brokers.server import Broker, Kind
from tests.fabric.brokers.clients import WAIT_S, Client
from tests.fabric.ended import check_gone

KINDS: list[Kind] = ["mosquitto", "nats"]


@pytest.fixture(scope="module", params=KINDS)
def kind(request: pytest.FixtureRequest, mosquitto: Path) -> Kind:
    """Each kind; Mosquitto has to be there."""
    asked: Kind = request.param
    return asked


@pytest.fixture(scope="module")
def broker(kind: Kind, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    with make_broker(BrokerSettings("site", tmp_path_factory.mktemp("broker")), kind) as running:
        yield running


@pytest.fixture
def client(broker: Broker, request: pytest.FixtureRequest) -> Iterator[Client]:
    connected = Client(broker.url, request.node.name)
    yield connected
    connected.close()


@pytest.mark.parametrize("qos", [0, 1])
def test_a_payload_of_20_mb_passes_whole(client: Client, qos: int) -> None:
    assert client.subscribe(f"big/{qos}", qos)
    payload = os.urandom(1_000_000) * 20
    client.client.publish(f"big/{qos}", payload, qos)
    assert client.received.get(timeout=WAIT_S) == payload


def test_qos_1_keeps_order_and_neither_loses_nor_repeats(client: Client) -> None:
    assert client.subscribe("ordered/+", 1)
    for number in range(3000):
        client.client.publish("ordered/one", str(number), 1)
    assert [int(client.received.get(timeout=WAIT_S)) for _ in range(3000)] == list(range(3000))
    assert client.received.empty()


def test_one_connection_may_have_the_stated_number_of_qos_1_filters(kind: Kind, client: Client) -> None:
    assert all(client.subscribe(f"many/{number}", 1) for number in range(MAX_QOS1_FILTERS))
    assert client.subscribe("many/beyond", 1) is (kind == "mosquitto")


def test_what_waits_for_a_subscriber_that_is_away_has_no_limit(broker: Broker) -> None:
    away = Client(broker.url, "away", clean_session=False)
    assert away.subscribe("kept", 1)
    away.close()
    sender = Client(broker.url, "sender")
    for number in range(2500):
        sent = sender.client.publish("kept", str(number), 1)
    sent.wait_for_publish(WAIT_S)
    sender.close()
    back = Client(broker.url, "away", clean_session=False)
    assert [int(back.received.get(timeout=WAIT_S)) for _ in range(2500)] == list(range(2500))
    back.close()


def test_a_subscriber_that_acknowledges_late_is_sent_the_next_all_the_same_and_gets_no_duplicates(
    client: Client,
) -> None:
    client.client.manual_ack_set(True)
    assert client.subscribe("late", 1)
    for number in range(200):
        client.client.publish("late", str(number), 1)
    assert [int(client.received.get(timeout=WAIT_S)) for _ in range(200)] == list(range(200))
    sleep_s(0.3)
    assert client.received.empty()


def test_a_retained_message_reaches_a_later_subscriber(broker: Broker, client: Client) -> None:
    client.client.publish("retained", b"model", 1, retain=True).wait_for_publish(WAIT_S)
    later = Client(broker.url, "later")
    assert later.hears_retained("retained", 1) == b"model"
    later.close()


def test_it_listens_on_loopback_alone(kind: Kind, broker: Broker) -> None:
    listening = [c.laddr for c in psutil.Process(broker.process.pid).net_connections() if c.status == "LISTEN"]
    assert {address.ip for address in listening} == {"127.0.0.1"}
    # NATS has its own protocol besides, which cannot be turned off.
    assert len(listening) == {"mosquitto": 1, "nats": 2}[kind]


def test_its_files_are_its_owners_alone(broker: Broker) -> None:
    directory = broker.settings.directory
    assert directory.stat().st_mode & 0o777 == 0o700
    assert (directory / "site.conf").stat().st_mode & 0o777 == 0o600


def test_brokers_that_start_side_by_side_do_not_collide(kind: Kind, tmp_path: Path) -> None:
    brokers = [make_broker(BrokerSettings(f"b-{number}", tmp_path), kind) for number in range(8)]
    with ThreadPoolExecutor(8) as starting:  # a broker ends with the thread that started it
        list(starting.map(Broker.start, brokers))
        assert len({broker.url for broker in brokers}) == 8
        for broker in brokers:
            broker.stop()


def test_stop_leaves_the_log_and_no_process(kind: Kind, tmp_path: Path) -> None:
    broker = make_broker(BrokerSettings("b", tmp_path), kind).start()
    process = broker.process
    broker.stop()
    broker.stop()
    assert process.has_ended
    assert sorted(path.name for path in tmp_path.iterdir()) == ["b.log"]


def test_a_server_that_cannot_start_is_named_with_its_last_words(tmp_path: Path) -> None:
    broker = make_broker(BrokerSettings("two words", tmp_path), "nats")
    with pytest.raises(FabricError, match=r"broker two words: ended at start: .*spaces.*two words\.log"):
        broker.start()


def test_a_port_that_somebody_else_listens_at_is_told(kind: Kind, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        broker = make_broker(BrokerSettings("b", tmp_path, port=port), kind)
        with pytest.raises(FabricError, match=f"port {port} of 127.0.0.1: Address already in use"):
            broker.start()


def test_it_listens_at_the_port_that_it_is_told(kind: Kind, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with make_broker(BrokerSettings("b", tmp_path, port=port), kind) as broker:
        assert broker.url == f"mqtt://127.0.0.1:{port}"
        Client(broker.url, "somebody").close()


def test_files_that_another_broker_left_are_not_taken_over(kind: Kind, tmp_path: Path) -> None:
    (tmp_path / "b.conf").touch()
    broker = make_broker(BrokerSettings("b", tmp_path), kind)
    with pytest.raises(FabricError, match="exists already"):
        broker.start()
    broker.stop()
    assert (tmp_path / "b.conf").exists()


def test_a_broker_that_is_not_started_says_so(kind: Kind, tmp_path: Path) -> None:
    with pytest.raises(FabricError, match="not started"):
        _ = make_broker(BrokerSettings("b", tmp_path), kind).url


def test_it_dies_with_a_parent_that_is_killed(kind: Kind, tmp_path: Path) -> None:
    program = (
        "import sys, pathlib; from edgebench.fabric.brokers import BrokerSettings, make_broker\n"
        "b = make_broker(BrokerSettings('b', pathlib.Path(sys.argv[1])), sys.argv[2]).start()\n"
        "print(b.process.pid, flush=True); sys.stdin.read()"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path), kind], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert parent.stdout is not None
    broker_pid = int(parent.stdout.readline())
    assert psutil.pid_exists(broker_pid)
    parent.send_signal(signal.SIGKILL)
    parent.communicate()
    check_gone(broker_pid)
