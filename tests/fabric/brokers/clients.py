"""A plain client for tests of brokers."""

from __future__ import annotations

import queue
import socket
import ssl
from typing import Any

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion

from edgebench.fabric.endpoints import parse_broker_url

WAIT_S = 30.0


class RefusedError(Exception):
    """The broker's answer to a login."""


def _without_nagle(_client: object, _data: object, sock: Any) -> None:
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


class Client:
    """A connected client: `received` holds the payloads, `granted` the answers to subscriptions, `lost` the reason of
    an end that it did not ask for. Raises RefusedError, or OSError where there is no connection at all."""

    def __init__(
        self,
        url: str,
        client_id: str,
        *,
        login: tuple[str, str] | None = None,
        tls: ssl.SSLContext | None = None,
        clean_session: bool = True,
        will: str | None = None,
    ) -> None:
        where = parse_broker_url(url)
        self.received: queue.Queue[bytes] = queue.Queue()
        self.granted: queue.Queue[bool] = queue.Queue()
        self.lost: queue.Queue[str] = queue.Queue()
        self._answer: queue.Queue[str | None] = queue.Queue()
        self.client = paho.Client(CallbackAPIVersion.VERSION2, client_id=client_id, clean_session=clean_session)
        self.client.on_connect = lambda _client, _data, _flags, code, _properties: self._answer.put(
            str(code) if code.is_failure else None
        )
        self.client.on_message = lambda _client, _data, message: self.received.put(bytes(message.payload))
        self.client.on_subscribe = lambda _client, _data, _mid, codes, _properties: self.granted.put(
            not codes[0].is_failure
        )
        self.client.on_disconnect = lambda _client, _data, _flags, code, _properties: self.lost.put(str(code))
        # With Nagle's algorithm on, each exchange of acknowledgements waits 40 ms for the kernel.
        self.client.on_socket_open = _without_nagle
        if login is not None:
            self.client.username_pw_set(*login)
        if tls is not None:
            self.client.tls_set_context(tls)
        if will is not None:
            self.client.will_set(will, b"gone", 1)
        self.client.connect(where.host, where.port)
        self.client.loop_start()
        refusal = self._answer.get(timeout=WAIT_S)
        if refusal is not None:
            self.client.loop_stop()
            raise RefusedError(refusal)

    def subscribe(self, topic: str, qos: int) -> bool:
        """Whether the broker grants it."""
        self.client.subscribe(topic, qos)
        return self.granted.get(timeout=WAIT_S)

    def hears(self, within_s: float = WAIT_S) -> bytes | None:
        """The next message; None where none comes in time."""
        try:
            return self.received.get(timeout=within_s)
        except queue.Empty:
            return None

    def hears_retained(self, topic: str, qos: int = 0) -> bytes | None:
        """What the broker retains there; None where there is nothing for a long time.

        It is asked for again and again: nats-server acknowledges such a message a moment before it holds it, and when
        it has been started again it takes subscriptions before it has read what it held.
        """
        for _ in range(round(WAIT_S)):
            if self.subscribe(topic, qos) and (heard := self.hears(1.0)) is not None:
                return heard
        return None

    def close(self) -> None:
        """Say goodbye."""
        self.client.disconnect()
        self.client.loop_stop()

    def vanish(self) -> None:
        """Break off without a word."""
        sock = self.client.socket()
        assert isinstance(sock, socket.socket)
        sock.shutdown(socket.SHUT_RDWR)
        self.client.loop_stop()
