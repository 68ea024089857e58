"""Exchanges over real brokers, and connections that break when a test says so."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from edgebench.clock import now_s
from edgebench.fabric import topics
from edgebench.fabric.endpoints import BrokerUrl
from edgebench.fabric.mqtt import Connection
from edgebench.fabric.reactor import Reactor
from edgebench.federated.exchange import Exchange, Transfer
from edgebench.federated.payload import Received

_RESET = struct.pack("ii", 1, 0)


class Cuttable:
    """A port on 127.0.0.1 that leads to another one, until all that pass are cut off."""

    def __init__(self, host: str, port: int) -> None:
        self.n_connections = 0
        self._target = (host, port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._open: list[socket.socket] = []
        threading.Thread(target=self._serve, daemon=True, name="cuttable").start()

    @property
    def broker(self) -> BrokerUrl:
        return BrokerUrl("127.0.0.1", self._listener.getsockname()[1])

    def cut(self) -> None:
        """Reset every connection, with what is under way in it."""
        for sock in self._open:
            with suppress(OSError):
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                sock.shutdown(socket.SHUT_RDWR)
            sock.close()
        self._open.clear()

    def close(self) -> None:
        self._listener.close()
        self.cut()

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
                target = socket.create_connection(self._target)
            except OSError:
                return
            self.n_connections += 1
            self._open += [client, target]
            for source, sink in ((client, target), (target, client)):
                threading.Thread(target=_pass_on, args=(source, sink), daemon=True, name="cuttable").start()


def _pass_on(source: socket.socket, sink: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(1 << 16):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)


class Wired:
    """An exchange with one peer, at a broker."""

    def __init__(self, reactor: Reactor, broker: BrokerUrl, name: str, spool_dir: Path, *, server: bool) -> None:
        to, fro = (topics.fl_site_down, topics.fl_site_up)[:: 1 if server else -1]
        self.peer = "device" if server else "server"
        self.received: list[Received] = []
        self.done: list[Transfer] = []
        self.up = False
        self.n_datagrams = 0
        self.after: Callable[[int], None] = lambda _number: None
        self._to = to("run", "work", "device")
        self.connection = Connection(reactor, broker, name, on_message=self._message, on_up=self._is_up)
        self.exchange = Exchange(
            reactor,
            lambda _peer, datagram: self.connection.publish(self._to, datagram, qos=0),
            spool_dir,
            on_received=lambda _peer, received: self.received.append(received),
            on_cancelled=lambda _peer, _transfer_id, _reason: None,
            backed_up=lambda: self.connection.backed_up,
        )
        self.connection.subscribe([fro("run", "work", "device")], 0)
        self.connection.start()

    def send(self, payload: list[bytes] | Path) -> Transfer:
        return self.exchange.send(self.peer, payload, self.done.append)

    def _is_up(self) -> None:
        self.up = True
        self.exchange.reconnected()

    def _message(self, _topic: str, datagram: bytes) -> None:
        self.n_datagrams += 1
        self.exchange.feed(self.peer, datagram)
        self.after(self.n_datagrams)


@contextmanager
def wired(server: BrokerUrl, client: BrokerUrl, tmp_path: Path) -> Iterator[tuple[Reactor, Wired, Wired]]:
    """Both ends of a conversation, connected, and the reactor that drives both."""
    reactor = Reactor()
    ends = [
        Wired(reactor, broker, name, tmp_path / name, server=name == "server")
        for name, broker in (("server", server), ("device", client))
    ]
    try:
        turn_until(reactor, lambda: all(end.up for end in ends))
        yield reactor, ends[0], ends[1]
    finally:
        for end in ends:
            end.connection.close()
            end.exchange.close()
        reactor.close()


def turn_until(reactor: Reactor, happened: Callable[[], bool], limit_s: float = 60.0) -> None:
    """Drive a reactor until something has happened."""
    until_s = now_s() + limit_s
    reactor.call_later(limit_s, lambda: None)
    while not happened():
        assert now_s() < until_s, "did not happen"
        reactor.turn()
