"""Connections to real brokers: many at once, and a way that swallows packets beside one that does not."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from functools import partial

import pytest

from edgebench.clock import NS_PER_MS, NS_PER_S, now_ns, now_s, sleep_s
from edgebench.fabric import mqtt
from edgebench.fabric.brokers import BrokerSettings, make_broker
from edgebench.fabric.descriptors import READABLE, wait_until_ready
from edgebench.fabric.endpoints import BrokerUrl, parse_broker_url
from edgebench.fabric.mqtt import Connection
from edgebench.fabric.reactor import Reactor
from tests.fabric.crowding import SELECT_KNOWS, crowded
from tests.fabric.swallowing import swallowing

WAIT_S = 30.0
CONNACK = b"\x20\x02\x00\x00"


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrokerUrl]:
    with make_broker(BrokerSettings("site", tmp_path_factory.mktemp("broker"))) as running:
        yield parse_broker_url(running.url)


@pytest.fixture
def reactor() -> Iterator[Reactor]:
    made = Reactor()
    yield made
    made.close()


def turn_until(reactor: Reactor, happened: Callable[[], bool]) -> None:
    until_s = now_s() + WAIT_S
    while not happened():
        assert now_s() < until_s, "did not happen"
        reactor.call_later(0.01, lambda: None)
        reactor.turn()


def asking(reactor: Reactor, server: socket.socket) -> socket.socket:
    """The broker's end of a connection, once it has been asked to accept it."""
    turn_until(reactor, lambda: wait_until_ready(server, READABLE, 0.0))
    peer, _ = server.accept()
    turn_until(reactor, lambda: wait_until_ready(peer, READABLE, 0.0))
    peer.recv(1000)
    return peer


def ignore(_topic: str, _payload: bytes) -> None:
    return


def test_what_is_published_last_arrives_where_something_has_come_unread(
    reactor: Reactor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A socket that is closed with something unread resets its connection, and all that is under way is lost."""
    monkeypatch.setattr(mqtt, "_GOODBYE_S", 20.0)  # a busy machine may not get round to reading in a second
    got = bytearray()
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve_slowly() -> None:
            with server.accept()[0] as connection:
                connection.recv(1 << 16)
                connection.sendall(b"\x20\x02\x00\x00")  # CONNACK
                connected.wait()
                connection.sendall(b"\x30\x03\x00\x01t")  # a message that nobody comes to read
                unread.set()
                sleep_s(0.3)
                while chunk := connection.recv(1 << 20):
                    got.extend(chunk)

        connected, unread = threading.Event(), threading.Event()
        thread = threading.Thread(target=serve_slowly)
        thread.start()
        client = Connection(
            reactor,
            parse_broker_url(f"mqtt://127.0.0.1:{server.getsockname()[1]}"),
            "last",
            on_message=ignore,
            on_up=connected.set,
        )
        client.start()
        turn_until(reactor, connected.is_set)
        unread.wait()
        client.publish("t", bytes(1_000_000), qos=0)
        client.close()
        thread.join()
    assert len(got) > 1_000_000
    assert got.endswith(b"\xe0\x00")  # DISCONNECT


def test_connections_above_a_thousand_descriptors_carry_messages_and_say_goodbye(
    broker: BrokerUrl, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mqtt, "_GOODBYE_S", 20.0)  # a busy machine may not take 4 MB in a second
    with crowded():
        reactor = Reactor()
        got: list[bytes] = []
        wills: list[bytes] = []
        up: list[str] = []
        watcher = Connection(
            reactor, broker, "watcher", on_message=lambda _, body: wills.append(body), on_up=partial(up.append, "w")
        )
        watcher.subscribe(["many/will"], 1)
        many = Connection(
            reactor,
            broker,
            "many",
            on_message=lambda _, body: got.append(body),
            on_up=partial(up.append, "m"),
            will=("many/will", b"gone"),
        )
        many.subscribe(["many/echo"], 1)
        for connection in (watcher, many):
            connection.start()
        turn_until(reactor, lambda: len(up) == 2)
        sock = many._client.socket()
        assert sock is not None
        assert sock.fileno() > SELECT_KNOWS
        many.publish("many/echo", b"hello", qos=1)
        turn_until(reactor, lambda: got == [b"hello"])
        many.publish("many/will", bytes(4_000_000), qos=0)  # more than the socket takes at once
        many.close()
        turn_until(reactor, lambda: bool(wills))
        assert len(wills[0]) == 4_000_000
        watcher.publish("many/will", b"last", qos=1)
        turn_until(reactor, lambda: len(wills) > 1)
        assert wills[1] == b"last"  # no will came in between
        watcher.close()
        reactor.close()


def test_an_uplink_that_swallows_packets_leaves_the_sites_connection_its_latency(
    reactor: Reactor, broker: BrokerUrl
) -> None:
    round_trips_ns: list[int] = []
    sent_ns = [0]
    up: list[bool] = []
    with swallowing() as port:
        site = Connection(
            reactor,
            broker,
            "site",
            on_message=lambda _topic, _body: round_trips_ns.append(now_ns() - sent_ns[0]),
            on_up=lambda: up.append(True),
        )
        site.subscribe(["site/echo"], 0)
        uplink = Connection(reactor, BrokerUrl("127.0.0.1", port), "uplink", on_message=ignore)
        site.start()
        uplink.start()
        turn_until(reactor, lambda: bool(up))
        for number in range(100):
            sent_ns[0] = now_ns()
            site.publish("site/echo", b"x", qos=0)
            turn_until(reactor, lambda number=number: len(round_trips_ns) > number)  # type: ignore[misc]
        uplink.close()
        site.close()
    # Blocking, the first one waited for the whole time that a connection may take to open.
    assert max(round_trips_ns) < 0.8 * mqtt._CONNECT_S * NS_PER_S
    assert sorted(round_trips_ns)[50] < 50 * NS_PER_MS


def test_a_broker_that_comes_back_is_connected_to_again(reactor: Reactor, broker: BrokerUrl) -> None:
    up: list[bool] = []
    down: list[str] = []
    got: list[bytes] = []
    connection = Connection(
        reactor,
        broker,
        "again",
        on_message=lambda _topic, body: got.append(body),
        on_up=lambda: up.append(True),
        on_trouble=down.append,
    )
    connection.subscribe(["again"], 1)
    connection.start()
    turn_until(reactor, lambda: len(up) == 1)
    assert connection._sock is not None
    connection._sock._sock.shutdown(socket.SHUT_RDWR)
    turn_until(reactor, lambda: len(up) == 2)
    assert len(down) == 1
    connection.publish("again", b"here", qos=1)
    turn_until(reactor, lambda: got == [b"here"])
    connection.close()


def test_what_was_under_way_when_a_connection_broke_arrives_by_the_next(reactor: Reactor, broker: BrokerUrl) -> None:
    standing: list[str] = []
    got: list[bytes] = []
    watcher = Connection(
        reactor, broker, "all", on_message=lambda _, body: got.append(body), on_up=lambda: standing.append("watcher")
    )
    watcher.subscribe(["breaking"], 1)
    watcher.start()
    publisher = Connection(reactor, broker, "breaks", on_message=ignore, on_up=lambda: standing.append("publisher"))
    publisher.start()
    turn_until(reactor, lambda: len(standing) == 2)
    bodies = [b"%d" % number for number in range(600)]
    for number, body in enumerate(bodies):
        publisher.publish("breaking", body, qos=1, waits=True)
        if number % 200 == 100:
            publisher.flush()
            reactor.turn()
            sock = publisher._sock
            assert sock is not None
            sock._sock.shutdown(socket.SHUT_RDWR)
            turn_until(reactor, lambda: publisher._sock is None)
            publisher.publish("breaking", b"meanwhile", qos=1)
            turn_until(reactor, lambda: publisher.connected)
    publisher.flush()
    turn_until(reactor, lambda: bodies[-1] in got)
    assert set(got) == {*bodies, b"meanwhile"}
    assert list(dict.fromkeys(body for body in got if body != b"meanwhile")) == bodies  # the first of each in order
    publisher.close()
    watcher.close()


def test_a_goodbye_that_is_said_before_the_broker_has_accepted_the_connection_is_sent(reactor: Reactor) -> None:
    got = bytearray()
    with socket.create_server(("127.0.0.1", 0)) as server:
        connection = Connection(
            reactor, BrokerUrl("127.0.0.1", server.getsockname()[1]), "early", on_message=ignore, will=("t", b"gone")
        )
        connection.subscribe(["t"], 1)
        connection.start()
        with asking(reactor, server) as peer:
            connection.depart()
            peer.sendall(CONNACK)
            sleep_s(0.05)  # it is there before the reactor looks
            turning = threading.Thread(target=reactor.turn, daemon=True)
            turning.start()
            turning.join(5.0)
            assert not turning.is_alive()
            peer.settimeout(WAIT_S)
            while chunk := peer.recv(1000):
                got.extend(chunk)
    assert got.endswith(b"\xe0\x00")  # DISCONNECT


def test_a_broker_that_falls_silent_is_told_of_once_and_asked_once(
    reactor: Reactor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mqtt, "KEEPALIVE_S", 1)
    monkeypatch.setattr(mqtt, "_HOUSEKEEPING_S", 0.2)
    troubles: list[str] = []
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = BrokerUrl("127.0.0.1", server.getsockname()[1])
        up: list[bool] = []
        connection = Connection(
            reactor, url, "silence", on_message=ignore, on_up=lambda: up.append(True), on_trouble=troubles.append
        )
        connection.start()
        with asking(reactor, server) as peer:
            peer.sendall(CONNACK)
            turn_until(reactor, lambda: bool(troubles))
            with asking(reactor, server) as again:
                again.sendall(CONNACK)
                turn_until(reactor, lambda: len(up) == 2)
                until_s = now_s() + 0.4
                while now_s() < until_s:
                    reactor.call_later(0.01, lambda: None)
                    reactor.turn()
                assert len(troubles) == 1
                connection.depart()
                said = bytearray()  # perhaps it has asked again before whether anybody is there

                def has_said_goodbye() -> bool:
                    if wait_until_ready(again, READABLE, 0.0):
                        said.extend(again.recv(1000))
                    return said.endswith(b"\xe0\x00")

                turn_until(reactor, has_said_goodbye)


def test_a_broker_that_accepts_a_connection_only_to_break_it_is_asked_less_and_less_often(reactor: Reactor) -> None:
    up: list[bool] = []
    accepted = bytes([0x20, 2, 0, 0])  # CONNACK

    def serve() -> None:
        while True:
            try:
                peer, _ = server.accept()
            except OSError:
                return  # closed
            with peer:
                peer.recv(1000)
                peer.sendall(accepted)

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=serve)
        thread.start()
        url = BrokerUrl("127.0.0.1", server.getsockname()[1])
        connection = Connection(reactor, url, "often", on_message=ignore, on_up=lambda: up.append(True))
        connection.start()
        until_s = now_s() + 2.5
        while now_s() < until_s:
            reactor.call_later(0.01, lambda: None)
            reactor.turn()
        connection.close()
        server.shutdown(socket.SHUT_RDWR)
        thread.join()
    assert 2 <= len(up) <= 5  # after 0, 0.1, 0.3, 0.8 and 1.8 s
