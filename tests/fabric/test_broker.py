"""The embedded broker, tested with a plain paho client against the real server."""

from __future__ import annotations

import os
import queue
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import paho.mqtt.client as paho
import psutil
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from edgebench.clock import now_s, sleep_s
from edgebench.errors import FabricError
from edgebench.fabric.broker import MAX_QOS1_FILTERS, EmbeddedBroker
from edgebench.fabric.endpoints import BrokerUrl, parse_broker_url

WAIT_S = 30.0


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedBroker]:
    with EmbeddedBroker("site", tmp_path_factory.mktemp("broker")) as running:
        yield running


def without_nagle(_client: object, _data: object, sock: object) -> None:
    assert isinstance(sock, socket.socket)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


class Client:
    """A connected client that echoes what it publishes: `received` holds the payloads, `granted` the SUBACK codes."""

    def __init__(self, url: str, client_id: str) -> None:
        where = parse_broker_url(url)
        self.received: queue.Queue[bytes] = queue.Queue()
        self.granted: queue.Queue[bool] = queue.Queue()
        self.client = paho.Client(CallbackAPIVersion.VERSION2, client_id=client_id)
        self.client.on_message = lambda _client, _data, message: self.received.put(bytes(message.payload))
        self.client.on_subscribe = lambda _client, _data, _mid, codes, _properties: self.granted.put(
            not codes[0].is_failure
        )
        # With Nagle's algorithm on, each exchange of acknowledgements waits 40 ms for the kernel.
        self.client.on_socket_open = without_nagle
        self.client.connect(where.host, where.port)
        self.client.loop_start()

    def subscribe(self, topic: str, qos: int) -> bool:
        self.client.subscribe(topic, qos)
        return self.granted.get(timeout=WAIT_S)

    def close(self) -> None:
        self.client.disconnect()
        self.client.loop_stop()


@pytest.fixture
def client(broker: EmbeddedBroker, request: pytest.FixtureRequest) -> Iterator[Client]:
    connected = Client(broker.url, request.node.name)
    yield connected
    connected.close()


def wait_until(happened: Callable[[], bool]) -> None:
    until_s = now_s() + WAIT_S
    while not happened():
        assert now_s() < until_s, "did not happen"
        sleep_s(0.02)


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


def test_one_connection_may_have_the_stated_number_of_qos_1_filters(client: Client) -> None:
    assert all(client.subscribe(f"many/{number}", 1) for number in range(MAX_QOS1_FILTERS))
    assert not client.subscribe("many/beyond", 1)


def test_a_subscriber_that_acknowledges_late_gets_no_duplicates(client: Client) -> None:
    client.client.manual_ack_set(True)
    assert client.subscribe("late", 1)
    for number in range(200):
        client.client.publish("late", str(number), 1)
    assert [int(client.received.get(timeout=WAIT_S)) for _ in range(200)] == list(range(200))
    sleep_s(0.3)
    assert client.received.empty()


def test_a_retained_message_reaches_a_later_subscriber(broker: EmbeddedBroker, client: Client) -> None:
    client.client.publish("retained", b"model", 1, retain=True).wait_for_publish(WAIT_S)
    later = Client(broker.url, "later")
    assert later.subscribe("retained", 1)
    assert later.received.get(timeout=WAIT_S) == b"model"
    later.close()


def test_it_listens_on_loopback_alone(broker: EmbeddedBroker) -> None:
    listening = [c.laddr for c in psutil.Process(broker.process.pid).net_connections() if c.status == "LISTEN"]
    assert {address.ip for address in listening} == {"127.0.0.1"}
    assert len(listening) == 2  # MQTT, and the server's own protocol, which cannot be turned off


def test_its_directory_is_private(broker: EmbeddedBroker) -> None:
    assert broker.directory.stat().st_mode & 0o777 == 0o700


def test_brokers_that_start_side_by_side_do_not_collide(tmp_path: Path) -> None:
    brokers = [EmbeddedBroker(f"b-{number}", tmp_path) for number in range(4)]
    with ThreadPoolExecutor(4) as starting:  # a broker ends with the thread that started it
        list(starting.map(EmbeddedBroker.start, brokers))
        assert len({broker.url for broker in brokers}) == 4
        for broker in brokers:
            broker.stop()


def test_stop_leaves_the_log_and_no_process(tmp_path: Path) -> None:
    broker = EmbeddedBroker("b", tmp_path).start()
    process = broker.process
    broker.stop()
    broker.stop()
    assert process.has_ended
    assert sorted(path.name for path in tmp_path.iterdir()) == ["b.conf", "b.log"]


def test_a_server_that_cannot_start_is_named_with_its_last_words(tmp_path: Path) -> None:
    with pytest.raises(FabricError, match=r"broker two words: ended at start: .*spaces.*two words\.log"):
        EmbeddedBroker("two words", tmp_path).start()


def test_a_store_that_another_broker_left_is_not_taken_over(tmp_path: Path) -> None:
    (tmp_path / "b.store").mkdir()
    with pytest.raises(FabricError, match="exists already"):
        EmbeddedBroker("b", tmp_path).start()


def test_a_broker_that_is_not_started_says_so(tmp_path: Path) -> None:
    with pytest.raises(FabricError, match="not started"):
        _ = EmbeddedBroker("b", tmp_path).url


def test_it_dies_with_a_parent_that_is_killed(tmp_path: Path) -> None:
    program = (
        "import sys, pathlib; from edgebench.fabric.broker import EmbeddedBroker\n"
        "b = EmbeddedBroker('b', pathlib.Path(sys.argv[1])).start(); print(b.process.pid, flush=True); sys.stdin.read()"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert parent.stdout is not None
    broker_pid = int(parent.stdout.readline())
    assert psutil.pid_exists(broker_pid)
    parent.send_signal(signal.SIGKILL)
    parent.communicate()
    wait_until(lambda: not psutil.pid_exists(broker_pid) or psutil.Process(broker_pid).status() == "zombie")


@pytest.mark.parametrize(
    ("url", "parts"),
    [
        ("mqtt://host", BrokerUrl("host", 1883)),
        ("mqtts://host", BrokerUrl("host", 8883, tls=True)),
        ("mqtt://ann:s%40cret@10.0.0.7:2000/", BrokerUrl("10.0.0.7", 2000, "ann", "s@cret")),
        ("mqtt://ann@host:1", BrokerUrl("host", 1, "ann")),
        ("mqtt://[::1]:1883", BrokerUrl("::1", 1883)),
    ],
)
def test_a_broker_url_is_taken_apart_and_put_together(url: str, parts: BrokerUrl) -> None:
    assert parse_broker_url(url) == parts
    assert parse_broker_url(parts.url) == parts


@pytest.mark.parametrize(
    ("url", "complaint"),
    [
        ("host:1883", "scheme"),
        ("http://host", "scheme"),
        ("mqtt://", "no host"),
        ("mqtt://:1883", "no host"),
        ("mqtt://host:port", "cannot be read"),
        ("mqtt://host:99999", "cannot be read"),
        ("mqtt://host:0", "port 0"),
        ("mqtt://host/topic", "nothing may follow"),
        ("mqtt://:secret@host", "no user"),
        ("mqtt://ann:se/cret@host", "cannot be read"),
        ("tcp://ann:secret@host", "scheme"),
        ("mqtt://ann:secret@foo..bar", "no host has such a name"),
        (f"mqtt://{'a' * 70}.de", "no host has such a name"),
    ],
)
def test_a_broken_broker_url_is_refused_without_telling_the_password(url: str, complaint: str) -> None:
    with pytest.raises(FabricError, match=complaint) as refused:
        parse_broker_url(url)
    assert "cret" not in str(refused.value)


def test_a_broker_url_is_shown_without_its_password() -> None:
    where = parse_broker_url("mqtt://ann:secret@host")
    assert "secret" not in repr(where)
    assert where.shown == "mqtt://ann:***@host:1883"
