"""Connections that open without holding the reactor up."""

from __future__ import annotations

import socket
import ssl
import struct
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from edgebench.clock import NS_PER_MS, now_ns, now_s
from edgebench.fabric import dialling
from edgebench.fabric.dialling import Dial
from edgebench.fabric.endpoints import Address, BrokerUrl, addresses_of
from edgebench.fabric.reactor import Reactor
from edgebench.fabric.tls import context_to
from tests.fabric.swallowing import refusing, swallowing


@pytest.fixture
def reactor() -> Iterator[Reactor]:
    made = Reactor()
    yield made
    made.close()


class Outcome:
    """How a dial ended, and the longest that the reactor stood still meanwhile."""

    def __init__(self, reactor: Reactor, broker: BrokerUrl, timeout_s: float = 5.0) -> None:
        self.sock: socket.socket | None = None
        self.why: str | None = None
        self.stood_still_ns = 0
        self._reactor = reactor
        self.dial = Dial(reactor, broker, timeout_s=timeout_s, on_open=self._opened, on_failed=self._failed)

    def _opened(self, sock: socket.socket) -> None:
        self.sock = sock

    def _failed(self, why: str) -> None:
        self.why = why

    def wait(self, most_s: float = 20.0) -> Outcome:
        until_s = now_s() + most_s
        last_ns = now_ns()
        while self.sock is None and self.why is None and now_s() < until_s:
            self._reactor.call_later(0.002, lambda: None)
            self._reactor.turn()
            self.stood_still_ns = max(self.stood_still_ns, now_ns() - last_ns)
            last_ns = now_ns()
        return self


def test_an_address_that_swallows_packets_holds_nothing_up_and_times_out(reactor: Reactor) -> None:
    with swallowing() as port:
        outcome = Outcome(reactor, BrokerUrl("127.0.0.1", port), timeout_s=1.0).wait()
    assert outcome.why == "timed out"
    assert outcome.stood_still_ns < 800 * NS_PER_MS


def test_a_peer_that_never_answers_the_handshake_holds_nothing_up_and_times_out(reactor: Reactor) -> None:
    context_to("example.org")  # reading the system's certificates takes its time, once
    with socket.create_server(("127.0.0.1", 0)) as silent:
        broker = BrokerUrl("127.0.0.1", silent.getsockname()[1], tls=True)
        outcome = Outcome(reactor, broker, timeout_s=1.0).wait()
    assert outcome.why == "timed out"
    assert outcome.stood_still_ns < 800 * NS_PER_MS


def test_a_name_is_resolved_and_its_addresses_are_tried_in_turn(reactor: Reactor) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        outcome = Outcome(reactor, BrokerUrl("localhost", server.getsockname()[1])).wait()
        assert outcome.sock is not None, outcome.why
        assert outcome.sock.getpeername()[0] == "127.0.0.1"
        assert not outcome.sock.getblocking()
        outcome.sock.close()


def test_a_refused_connection_and_an_unknown_name_tell_why(reactor: Reactor) -> None:
    with refusing() as port:
        assert Outcome(reactor, BrokerUrl("127.0.0.1", port)).wait().why == "Connection refused"
    assert Outcome(reactor, BrokerUrl("no.such.host.invalid", 1883)).wait(60.0).why is not None


@pytest.mark.parametrize("host", ["foo..bar", "a" * 70 + ".de"])
def test_what_can_be_no_hosts_name_is_told(reactor: Reactor, host: str) -> None:
    assert "can be no host's name" in (Outcome(reactor, BrokerUrl(host, 1883)).wait().why or "")


def test_a_peer_that_breaks_off_before_the_handshake_is_told_and_no_socket_is_forgotten(
    reactor: Reactor, monkeypatch: pytest.MonkeyPatch
) -> None:
    trusting = context_to("example.org")
    with socket.create_server(("127.0.0.1", 0)) as server:

        def reset_and_go_on(_name: str) -> ssl.SSLContext:
            peer, _ = server.accept()
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            peer.close()
            return trusting

        monkeypatch.setattr(dialling, "context_to", reset_and_go_on)
        outcome = Outcome(reactor, BrokerUrl("127.0.0.1", server.getsockname()[1], tls=True)).wait()
    assert "reset" in (outcome.why or "")


def test_an_attempt_that_is_called_off_says_nothing(reactor: Reactor) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        outcome = Outcome(reactor, BrokerUrl("127.0.0.1", server.getsockname()[1]))
        outcome.dial.call_off()
        assert outcome.wait(0.1).sock is None
    assert outcome.why is None


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Of localhost, and its key; nobody vouches for it."""
    directory = tmp_path_factory.mktemp("certificate")
    certificate, key = directory / "cert.pem", directory / "key.pem"
    make = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    make += ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    subprocess.run([*make, "-keyout", str(key), "-out", str(certificate)], check=True, capture_output=True)
    return certificate, key


@contextmanager
def greeting(certificate: tuple[Path, Path]) -> Iterator[int]:
    """A port that says hello by TLS to one client."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)

    def greet() -> None:
        with suppress(OSError), context.wrap_socket(server.accept()[0], server_side=True) as peer:
            peer.sendall(b"hello")
            peer.recv(1)

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=greet)
        thread.start()
        yield int(server.getsockname()[1])
        thread.join()


def test_a_tls_connection_is_open_when_its_hands_are_shaken(
    reactor: Reactor, certificate: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    trusting = ssl.create_default_context(cafile=str(certificate[0]))
    monkeypatch.setattr(dialling, "context_to", lambda _name: trusting)
    with greeting(certificate) as port:
        outcome = Outcome(reactor, BrokerUrl("localhost", port, tls=True)).wait()
        assert isinstance(outcome.sock, ssl.SSLSocket), outcome.why
        outcome.sock.setblocking(True)
        assert outcome.sock.recv(5) == b"hello"
        outcome.sock.close()


def test_a_certificate_that_nobody_vouches_for_is_refused(reactor: Reactor, certificate: tuple[Path, Path]) -> None:
    with greeting(certificate) as port:
        outcome = Outcome(reactor, BrokerUrl("localhost", port, tls=True)).wait()
    assert outcome.why is not None
    assert "self-signed" in outcome.why


def test_a_name_is_asked_for_once_for_all_who_wait_for_it(reactor: Reactor, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    answered = threading.Event()

    def slowly(host: str, port: int, flags: int = 0) -> list[Address]:
        if flags:
            raise OSError("a name")
        asked.append(host)
        answered.wait(20.0)
        return addresses_of("127.0.0.1", port)

    monkeypatch.setattr(dialling, "addresses_of", slowly)
    with socket.create_server(("127.0.0.1", 0), backlog=100) as server:
        broker = BrokerUrl("broker.lab", server.getsockname()[1])
        outcomes = [Outcome(reactor, broker) for _ in range(50)]
        reactor.turn()
        asking = [thread for thread in threading.enumerate() if thread.name == "address of broker.lab"]
        assert len(asking) == 1
        answered.set()
        for outcome in outcomes:
            sock = outcome.wait().sock
            assert sock is not None
            sock.close()
        assert asked == ["broker.lab"]
        later = Outcome(reactor, broker).wait()  # an address may have changed
        assert later.sock is not None
        later.sock.close()
        assert asked == ["broker.lab", "broker.lab"]
