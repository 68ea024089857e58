"""A TCP connection carried across emulated links: read at one end, held back, written at the other.

All of it runs in the reactor's thread and never blocks.
"""

from __future__ import annotations

import socket
import struct
from functools import partial
from typing import NamedTuple

from edgebench.clock import now_ns
from edgebench.core.links import WINDOW_NS, Lane, latency_ns, pending_bytes_bound, piece_bytes
from edgebench.core.tcp import connected_ns
from edgebench.fabric.arrivals import note_arrivals, receive
from edgebench.fabric.ends import End
from edgebench.fabric.lossy import LossyFlow
from edgebench.fabric.publish_counter import PublishCounter
from edgebench.fabric.reactor import WRITE, Reactor

_RECEIVE_BYTES = 64 * 1024
_RESET = struct.pack("ii", 1, 0)


class _Pieces(NamedTuple):
    """What arrives at once: behind what was late, many messages do. Each with how many messages it counts for."""

    due_ns: int
    pieces: list[tuple[bytes, int]]


class _Flow:
    """One direction of a connection: from an end, across lanes, to the other end."""

    def __init__(
        self,
        reactor: Reactor,
        source: End,
        sink: End,
        lanes: tuple[Lane, ...],
        owner: RelayedConnection,
        *,
        counted: bool,
        counter: PublishCounter | None,
    ) -> None:
        self._reactor = reactor
        self._source = source
        self._sink = sink
        self._lanes = lanes
        self._owner = owner
        self._counted = counted
        self._counter = counter
        self._leaves = False
        self._pending_bytes = 0
        self._hold_until_ns = 0
        self._ended = False
        self._reads_from_ns = 0
        self._under_way: list[_Pieces | None] = [None] * len(lanes)
        self.reshaped()
        source.read = self._read
        sink.written = self._written

    def reshaped(self) -> None:
        """Go by what the lanes are now."""
        self._holds_back = any(lane.holds_back for lane in self._lanes)
        if self._holds_back:
            note_arrivals(self._source.sock)
        self._piece_bytes = piece_bytes(self._lanes)
        self._bound_bytes = 0 if self._leaves else pending_bytes_bound(self._lanes)
        self._receive_bytes = min(_RECEIVE_BYTES, self._bound_bytes // 2)

    def leave(self) -> None:
        """Read nothing more, and hand over once all that was read is written."""
        self._leaves = True
        self._bound_bytes = 0
        self._source.set_reading(False)
        self.resume()

    def resume(self) -> None:
        """Read, if nothing speaks against it."""
        if self._owner.closed or self._ended:
            return
        if self._pending_bytes >= self._bound_bytes:
            if self._leaves and not self._pending_bytes:
                self._owner.hand_over(self)
            return
        at_ns = now_ns()
        if self._hold_until_ns > at_ns:
            self._reactor.call_at(self._hold_until_ns, self.resume)
            return
        if not self._source.reading:
            self._reads_from_ns = at_ns
            self._source.set_reading(True)

    def _read(self) -> None:
        try:
            if self._holds_back:
                data, at_ns = receive(self._source.sock, self._receive_bytes)
            else:
                data, at_ns = self._source.sock.recv(self._receive_bytes), now_ns()
        except BlockingIOError:
            return
        except OSError:
            self._owner.abort()
            return
        at_ns = max(at_ns, self._reads_from_ns)  # what waited because the link was full comes as it is taken
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
        together = self._under_way[hop]
        if together is not None and together.due_ns == arrival_ns:
            together.pieces.append((piece, messages))
        else:
            self._under_way[hop] = together = _Pieces(arrival_ns, [(piece, messages)])
            self._reactor.call_at(arrival_ns, partial(self._arrive, hop, together))
        hold_until_ns = departure_ns - WINDOW_NS
        if hold_until_ns > self._hold_until_ns:
            self._hold_until_ns = hold_until_ns
            if self._source.reading and hold_until_ns > at_ns:
                self._source.set_reading(False)
                self._reactor.call_at(hold_until_ns, self.resume)

    def _arrive(self, hop: int, together: _Pieces) -> None:
        if self._owner.closed:
            return
        if self._under_way[hop] is together:
            self._under_way[hop] = None
        if self._counted:
            for piece, messages in together.pieces:
                self._lanes[hop].count(len(piece), messages)
        # The next hop counts from the time at which they were due here, so that a late timer delays them but once.
        if hop + 1 < len(self._lanes):
            for piece, messages in together.pieces:
                self._carry(hop + 1, together.due_ns, piece, messages)
            return
        pieces = [piece for piece, _ in together.pieces]
        if data := pieces[0] if len(pieces) == 1 else b"".join(pieces):
            self._sink.write(data)
        if not pieces[-1]:
            self._sink.finish()

    def _written(self, size: int) -> None:
        was_full = self._pending_bytes >= self._bound_bytes
        self._pending_bytes -= size
        if was_full:
            self.resume()


class _Way(NamedTuple):
    source: End
    sink: End
    lanes: tuple[Lane, ...]
    back: tuple[Lane, ...]
    counter: PublishCounter | None


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
        loses: bool,
    ) -> None:
        """loses: by the law of TCP where packets get lost, whether or not any do; else by that of the lanes alone."""
        self.closed = False
        self._is_open = False
        self._reactor = reactor
        target = socket.socket(socket.AF_INET6 if ":" in target_address[0] else socket.AF_INET, socket.SOCK_STREAM)
        self._client = End(reactor, client, self)
        self._target = End(reactor, target, self)
        self._counted = counted
        self._ways = (
            _Way(self._client, self._target, up, down, PublishCounter() if mqtt else None),
            _Way(self._target, self._client, down, up, PublishCounter() if mqtt else None),
        )
        self._flows: list[_Flow | LossyFlow] = [self._flow(way, loses=loses) for way in self._ways]
        # TCP's own handshake takes a round trip, which the one that the kernel made on loopback did not.
        self._open_ns = connected_ns(up, down, now_ns()) if loses else now_ns() + latency_ns(up + down)
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

    def reshaped(self, *, loses: bool) -> None:
        """Its lanes are others now. loses: from now on, as above; it stays so."""
        if self.closed:
            return
        for flow in self._flows:
            flow.reshaped()
        if self._is_open:
            self._open()
        for flow in tuple(self._flows) if loses else ():
            if isinstance(flow, _Flow):
                flow.leave()

    def hand_over(self, flow: _Flow) -> None:
        """A flow has nothing under way any more: the law of TCP goes on with its bytes."""
        place = self._flows.index(flow)
        self._flows[place] = self._flow(self._ways[place], loses=True)
        if self._is_open:
            self._flows[place].resume()

    def _flow(self, way: _Way, *, loses: bool) -> _Flow | LossyFlow:
        if loses:
            return LossyFlow(self._reactor, *way, owner=self, counted=self._counted)
        return _Flow(self._reactor, way.source, way.sink, way.lanes, self, counted=self._counted, counter=way.counter)

    def _connected(self, _events: int) -> None:
        self._reactor.unwatch(self._target.sock)
        if self._target.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            self.abort()
            return
        self._reactor.call_at(self._open_ns, self._open)

    def _open(self) -> None:
        self._is_open = True
        for flow in self._flows:
            flow.resume()

    def _close(self) -> None:
        if not self.closed:
            self.closed = True
            for end in (self._client, self._target):
                self._reactor.unwatch(end.sock)
                end.sock.close()
