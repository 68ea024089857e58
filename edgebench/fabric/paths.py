"""The way between two machines as the network makes it: its delay and rate before a run, and the delay during it.

One end serves, the other asks: a few bytes there and back, whose quickest way is half as long each way, as far as one
clock can tell; then as much as takes a while, one way and the other. All of it is TLS, whose cost is in the rate, as it
is in that of a run.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import statistics
import struct
import threading
from array import array
from collections.abc import Callable

import msgspec

from edgebench.clock import NS_PER_MS, NS_PER_S, now_ns, sleep_s
from edgebench.core.links import mbit_s
from edgebench.errors import FabricError

_HEAD = struct.Struct(">cQ")
_ECHO, _UP, _DOWN = b"e", b"u", b"d"
_PIECE = bytes(1 << 16)
_FIRST_BYTES, _MOST_BYTES = 1 << 14, 1 << 25
_ENOUGH_NS = NS_PER_S // 4
_ECHOES = 40
_SPACING_S = 0.005
_EVERY_S = 0.5
_SILENCE_S = 30.0


class PathMeasured(msgspec.Struct, frozen=True):
    """delay_ms: half the median round trip. Rates: of what TLS carries, up: from who asks."""

    delay_ms: float
    up_mbit_s: float
    down_mbit_s: float


class PathWatched(msgspec.Struct, frozen=True):
    """Half the round trips of a run: the median, and the longest. n: of how many."""

    delay_ms: float
    most_delay_ms: float
    n: int


class PathServer:
    """The serving end: a thread for whoever connects, until it is closed. Who does shows a certificate of the lab."""

    def __init__(self, listening: socket.socket, context: ssl.SSLContext) -> None:
        self._listening = listening
        self._context = context
        self._open: set[socket.socket] = set()
        self._closed = False
        self._thread = threading.Thread(target=self._accept, name="paths", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Serve nobody any more."""
        self._closed = True
        with contextlib.suppress(OSError):  # macOS says that it is not connected
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        for each in list(self._open):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        self._thread.join()

    def _accept(self) -> None:
        while not self._closed:
            try:
                peer, _ = self._listening.accept()
            except OSError:  # it was closed
                return
            self._open.add(peer)
            threading.Thread(target=self._serve, args=(peer,), name="path", daemon=True).start()

    def _serve(self, peer: socket.socket) -> None:
        peer.settimeout(_SILENCE_S)
        # Whoever breaks off, or says something else, has measured nothing; that is for that end to tell.
        with contextlib.suppress(OSError), self._context.wrap_socket(peer, server_side=True) as secured:
            secured.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            while True:
                head = _received(secured, _HEAD.size)
                kind, size = _HEAD.unpack(head)
                if kind == _UP and size <= _MOST_BYTES:
                    _received(secured, size)
                elif kind == _DOWN and size <= _MOST_BYTES:
                    _send(secured, size)
                elif kind != _ECHO:
                    break
                if kind != _DOWN:
                    secured.sendall(head)
        self._open.discard(peer)


class NetworkPath:
    """The asking end. Opened by `measure`; watched from `watch` on until it is closed."""

    def __init__(self, host: str, port: int, context: ssl.SSLContext, server_name: str) -> None:
        self._address = host, port
        self._context = context
        self._server_name = server_name
        self._sock: ssl.SSLSocket | None = None
        self._over = threading.Event()
        self._thread: threading.Thread | None = None
        self._delays_ms = array("d")

    def measure(self) -> PathMeasured:
        """Open it, and measure it; takes some 2 s. Raises FabricError."""
        try:
            plain = socket.create_connection(self._address, _SILENCE_S)
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock = self._sock = self._context.wrap_socket(plain, server_hostname=self._server_name)
            trips_ns = []
            for _ in range(_ECHOES):
                trips_ns.append(_echo_ns(sock))
                sleep_s(_SPACING_S)
            trip_ns = round(statistics.median(trips_ns))
            up, down = (_rate(sock, trip_ns, way) for way in (_up, _down))
        except OSError as error:
            raise FabricError(f"{self._server_name} at {self._address[0]}: cannot be measured: {error}") from error
        return PathMeasured(trip_ns / 2 / NS_PER_MS, up, down)

    def watch(self) -> None:
        """Go on measuring the delay twice a second, in a thread of its own."""
        self._thread = threading.Thread(target=self._watch, name=f"path to {self._server_name}", daemon=True)
        self._thread.start()

    def close(self) -> PathWatched | None:
        """What was seen since `watch`; None where that is nothing."""
        self._over.set()
        if self._thread is not None:
            self._thread.join()
        if self._sock is not None:
            self._sock.close()
        seen = self._delays_ms
        return PathWatched(statistics.median(seen), max(seen), len(seen)) if seen else None

    def _watch(self) -> None:
        assert self._sock is not None
        with contextlib.suppress(OSError):  # the way is cut: what was seen until then is what was seen
            while not self._over.wait(_EVERY_S):
                self._delays_ms.append(_echo_ns(self._sock) / 2 / NS_PER_MS)


def _echo_ns(sock: ssl.SSLSocket) -> int:
    start_ns = now_ns()
    sock.sendall(_HEAD.pack(_ECHO, 0))
    _received(sock, _HEAD.size)
    return now_ns() - start_ns


def _up(sock: ssl.SSLSocket, size: int) -> None:
    sock.sendall(_HEAD.pack(_UP, size))
    _send(sock, size)
    _received(sock, _HEAD.size)


def _down(sock: ssl.SSLSocket, size: int) -> None:
    sock.sendall(_HEAD.pack(_DOWN, size))
    _received(sock, size)


def _rate(sock: ssl.SSLSocket, trip_ns: int, way: Callable[[ssl.SSLSocket, int], None]) -> float:
    """Of so many bytes as take a while, without the time that the first of them is on its way."""
    size = _FIRST_BYTES
    while True:
        start_ns = now_ns()
        way(sock, size)
        took_ns = now_ns() - start_ns
        if took_ns >= _ENOUGH_NS + trip_ns or size == _MOST_BYTES:
            return mbit_s(size, max(1, took_ns - trip_ns))
        size = min(4 * size, _MOST_BYTES)


def _send(sock: ssl.SSLSocket, size: int) -> None:
    while size:
        piece = _PIECE if size >= len(_PIECE) else _PIECE[:size]
        sock.sendall(piece)
        size -= len(piece)


def _received(sock: ssl.SSLSocket, size: int) -> bytes:
    """So many bytes, of which the last are given (of a head: all). Raises OSError where the other end closes before."""
    last = b""
    while size:
        data = sock.recv(min(size, len(_PIECE)))
        if not data:
            raise ConnectionError("the other end has closed it")
        size -= len(data)
        last = (last + data)[-_HEAD.size :]
    return last
