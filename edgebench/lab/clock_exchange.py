"""The exchange by which clocks are compared: on a connection of its own, and by as short a way through both programs as
can be, since whatever it takes is doubt about the offset.

TLS tells the two kinds of connection apart (ALPN, RFC 7301). A question is two bytes with its length, and MessagePack;
an answer is the two stamps, eight bytes each.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import struct
from collections.abc import Callable

import msgspec

from edgebench.clock import now_ns
from edgebench.core.clocks import Exchange
from edgebench.decoding import from_msgpack
from edgebench.fabric.tls import Trust, client_context, renew, tls_name
from edgebench.lab.addresses import LabUrl
from edgebench.lab.messages import ClockQuestion, LabError
from edgebench.topology.deployment import HERE

PROTOCOL = "edgebench-clock"
_LENGTH = struct.Struct("!H")
_STAMPS = struct.Struct("!qq")
_MOST_BYTES = 256
_ANSWER_S = 5.0

Hear = Callable[[ClockQuestion], None]
"""What is done with a question that has been answered. Raises LabError where it should not have been."""


class ClockAnswerer(asyncio.Protocol):
    """The server's end of one connection."""

    def __init__(self, hear: Hear, opened: Callable[[asyncio.Transport], None]) -> None:
        self._hear = hear
        self._opened = opened
        self._transport: asyncio.Transport | None = None
        self._have = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """It is open."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._opened(transport)

    def data_received(self, data: bytes) -> None:
        """Answer first, and see then what it was about."""
        t1_ns = now_ns()
        assert self._transport is not None
        self._have += data
        if len(self._have) < _LENGTH.size:
            return
        (size_bytes,) = _LENGTH.unpack_from(self._have)
        if len(self._have) < _LENGTH.size + size_bytes <= _MOST_BYTES:
            return
        self._transport.write(_STAMPS.pack(t1_ns, now_ns()))
        asked, self._have = self._have[_LENGTH.size :], b""
        try:
            self._hear(from_msgpack(asked, ClockQuestion))
        except (msgspec.DecodeError, LabError):
            self._transport.abort()


class ClockAsker:
    """A machine's end, opened when it is needed and again after it broke. Not thread-safe, but for `hang_up`."""

    def __init__(self, url: LabUrl, trust: Trust) -> None:
        self._url = url
        self._trust = trust
        self._stale = False
        self._context = client_context(trust, mutual=True)
        self._context.set_alpn_protocols([PROTOCOL])
        self._sock: ssl.SSLSocket | None = None

    def ask(self, session: str, last: Exchange | None) -> Exchange:
        """Ask what time it is there. last: what came of the question before. Raises OSError."""
        question = msgspec.msgpack.encode(ClockQuestion(session, last))
        question = _LENGTH.pack(len(question)) + question
        if self._stale:
            self._stale = False
            self.close()
            renew(self._context, self._trust)
        try:
            sock = self._sock = self._sock or self._opened()
            t0_ns = now_ns()
            sock.sendall(question)
            answer = sock.recv(_STAMPS.size)
            t3_ns = now_ns()
        except OSError:
            self.close()
            raise
        if len(answer) != _STAMPS.size:  # one record of TLS comes whole
            self.close()
            raise ConnectionResetError("the lab has hung up")
        t1_ns, t2_ns = _STAMPS.unpack(answer)
        return Exchange(t0_ns, t1_ns, t2_ns, t3_ns)

    def begin_anew(self) -> None:
        """From any thread: the next question goes by another connection, which shows the certificate of then."""
        self._stale = True

    def hang_up(self) -> None:
        """From any thread: whoever waits for an answer gets OSError."""
        sock = self._sock
        if sock is not None:
            try:
                sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                return  # it is broken already

    def close(self) -> None:
        """Drop the connection."""
        if self._sock is not None:
            self._sock.close()
            self._sock = None

    def _opened(self) -> ssl.SSLSocket:
        plain = socket.create_connection((self._url.host, self._url.port), _ANSWER_S)
        try:
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return self._context.wrap_socket(plain, server_hostname=tls_name(HERE))
        except BaseException:
            plain.close()
            raise
