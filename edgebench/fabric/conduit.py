"""A TCP connection carried across emulated links: read at one end, held back, written at the other.

All of it runs in the reactor's thread and never blocks.
"""

from __future__ import annotations

import socket
import struct
from collections import deque
from collections.abc import Callable
from functools import partial

from edgebench.clock import now_ns
from edgebench.core.links import WINDOW_NS, Lane, pending_bytes_bound, piece_bytes
from edgebench.fabric.publish_counter import PublishCounter
from edgebench.fabric.reactor import READ, WRITE, Reactor

_RECEIVE_BYTES = 64 * 1024
_RESET = struct.pack("ii", 1, 0)


class _End:
    """One socket of a connection: what it has to write, and what it is watched for."""

    def __init__(self, reactor: Reactor, sock: socket.socket, owner: RelayedConnection) -> None:
        self.sock = sock
        self.reading = False
        self.finished = False
        self.read: Callable[[], None] = lambda: None
        self.written: Callable[[int], None] = lambda _size: None
        self._reactor = reactor
        self._owner = owner
        self._unsent: deque[memoryview] = deque()
        self._finishing = False
        self._watched = 0
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def set_reading(self, reading: bool) -> None:
        if reading != self.reading:
            self.reading = reading
            self._watch()

    def write(self, data: bytes) -> None:
        self._unsent.append(memoryview(data))
        if len(self._unsent) == 1:
            self._send()

    def finish(self) -> None:
        """No more will be written."""
        self._finishing = True
        if not self._unsent:
            self._send()

    def _ready(self, events: int) -> None:
        if events & WRITE and self._watched & WRITE:
            self._send()
        if events & READ and self.reading:
            self.read()

    def _send(self) -> None:
        try:
            while self._unsent:
                sent = self.sock.send(self._unsent[0])
                if sent == len(self._unsent[0]):
                    self._unsent.popleft()
                else:
                    self._unsent[0] = self._unsent[0][sent:]
                self.written(sent)
            if self._finishing:
                self.sock.shutdown(socket.SHUT_WR)
                self.finished = True
        except BlockingIOError:
            pass  # the rest goes when it is ready
        except OSError:
            self._owner.abort()
            return
        self._watch()
        self._owner.close_if_finished()

    def _watch(self) -> None:
        wanted = (READ if self.reading else 0) | (WRITE if self._unsent else 0)
        if wanted == self._watched:
            return
        self._watched = wanted
        if wanted:
            self._reactor.watch(self.sock, wanted, self._ready)
        else:
            self._reactor.unwatch(self.sock)


class _Flow:
    """One direction of a connection: from an end, across lanes, to the other end."""

    def __init__(
        self,
        reactor: Reactor,
        source: _End,
        sink: _End,
        lanes: tuple[Lane, ...],
        owner: RelayedConnection,
        *,
        counted: bool,
        mqtt: bool,
    ) -> None:
        self._reactor = reactor
        self._source = source
        self._sink = sink
        self._lanes = lanes
        self._owner = owner
        self._counted = counted
        self._counter = PublishCounter() if mqtt else None
        self._pending_bytes = 0
        self._hold_until_ns = 0
        self._ended = False
        self.reshaped()
        source.read = self._read
        sink.written = self._written

    def reshaped(self) -> None:
        """Go by what the lanes are now."""
        self._piece_bytes = piece_bytes(self._lanes)
        self._bound_bytes = pending_bytes_bound(self._lanes)
        self._receive_bytes = min(_RECEIVE_BYTES, self._bound_bytes // 2)

    def resume(self) -> None:
        """Read, if nothing speaks against it."""
        if self._owner.closed or self._ended or self._pending_bytes >= self._bound_bytes:
            return
        if self._hold_until_ns > now_ns():
            self._reactor.call_at(self._hold_until_ns, self.resume)
            return
        self._source.set_reading(True)

    def _read(self) -> None:
        try:
            data = self._source.sock.recv(self._receive_bytes)
        except BlockingIOError:
            return
        except OSError:
            self._owner.abort()
            return
        at_ns = now_ns()
        if not data:
            self._ended = True
            self._source.set_reading(False)
            self._carry(0, at_ns, b"", 0)
            return
        self._pending_bytes += len(data)
        for start in range(0, len(data), self._piece_bytes):
            piece = data if len(data) <= self._piece_bytes else data[start : start + self._piece_bytes]
            self._carry(0, at_ns, piece, self._counter.feed(piece) if self._counter else 0)
        if self._pending_bytes >= self._bound_bytes:
            self._source.set_reading(False)

    def _carry(self, hop: int, at_ns: int, piece: bytes, messages: int) -> None:
        departure_ns, arrival_ns = self._lanes[hop].carry(at_ns, len(piece))
        self._reactor.call_at(arrival_ns, partial(self._arrive, hop, arrival_ns, piece, messages))
        hold_until_ns = departure_ns - WINDOW_NS
        if hold_until_ns > self._hold_until_ns:
            self._hold_until_ns = hold_until_ns
            if self._source.reading and hold_until_ns > at_ns:
                self._source.set_reading(False)
                self._reactor.call_at(hold_until_ns, self.resume)

    def _arrive(self, hop: int, at_ns: int, piece: bytes, messages: int) -> None:
        if self._owner.closed:
            return
        if self._counted:
            self._lanes[hop].count(len(piece), messages)
        # The next hop counts from the time at which the piece was due here, so that a late timer delays it but once.
        if hop + 1 < len(self._lanes):
            self._carry(hop + 1, at_ns, piece, messages)
        elif piece:
            self._sink.write(piece)
        else:
            self._sink.finish()

    def _written(self, size: int) -> None:
        was_full = self._pending_bytes >= self._bound_bytes
        self._pending_bytes -= size
        if was_full:
            self.resume()


class RelayedConnection:
    """A client's connection and its continuation to the target."""

    def __init__(
        self,
        reactor: Reactor,
        client: socket.socket,
        target_address: tuple[str, int],
        *,
        up: tuple[Lane, ...],
        down: tuple[Lane, ...],
        counted: bool,
        mqtt: bool,
    ) -> None:
        self.closed = False
        self._is_open = False
        self._reactor = reactor
        target = socket.socket(socket.AF_INET6 if ":" in target_address[0] else socket.AF_INET, socket.SOCK_STREAM)
        self._client = _End(reactor, client, self)
        self._target = _End(reactor, target, self)
        self._up = _Flow(reactor, self._client, self._target, up, self, counted=counted, mqtt=mqtt)
        self._down = _Flow(reactor, self._target, self._client, down, self, counted=counted, mqtt=mqtt)
        # TCP's own handshake takes a round trip, which the one that the kernel made on loopback did not.
        self._open_ns = now_ns() + sum(lane.latency_ns for lane in up + down)
        try:
            target.connect(target_address)
        except BlockingIOError:
            reactor.watch(target, WRITE, self._connected)
        except OSError:
            self.abort()
        else:
            self._connected(WRITE)

    def close_if_finished(self) -> None:
        """Close when both directions have delivered all that they had."""
        if self._client.finished and self._target.finished:
            self._close()

    def abort(self) -> None:
        """Reset both ends at once."""
        for end in (self._client, self._target):
            if not self.closed:
                end.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self._close()

    def reshaped(self) -> None:
        """Its lanes are others now."""
        for flow in (self._up, self._down):
            flow.reshaped()
        if self._is_open:
            self._open()

    def _connected(self, _events: int) -> None:
        self._reactor.unwatch(self._target.sock)
        if self._target.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            self.abort()
            return
        self._reactor.call_at(self._open_ns, self._open)

    def _open(self) -> None:
        self._is_open = True
        self._up.resume()
        self._down.resume()

    def _close(self) -> None:
        if not self.closed:
            self.closed = True
            for end in (self._client, self._target):
                self._reactor.unwatch(end.sock)
                end.sock.close()
