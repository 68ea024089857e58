"""One direction of a connection across links that lose packets: what was read at one end is written at the other when
the law of TCP says so (`edgebench.core.tcp`)."""

from __future__ import annotations

from edgebench.clock import now_ns
from edgebench.core.links import Lane, pending_bytes_bound
from edgebench.core.tcp import TcpFlow
from edgebench.fabric.arrivals import note_arrivals, receive
from edgebench.fabric.ends import Connection, End
from edgebench.fabric.publish_counter import PublishCounter
from edgebench.fabric.reactor import Reactor, Timer

_RECEIVE_BYTES = 64 * 1024


class LossyFlow:
    """From an end, across lanes, to the other end. back: the lanes that acknowledgements cross."""

    def __init__(
        self,
        reactor: Reactor,
        source: End,
        sink: End,
        lanes: tuple[Lane, ...],
        back: tuple[Lane, ...],
        counter: PublishCounter | None,
        *,
        owner: Connection,
        counted: bool,
    ) -> None:
        self._reactor = reactor
        self._source = source
        self._sink = sink
        self._lanes = lanes
        self._owner = owner
        self._counted = counted
        self._counter = counter
        self._upto_ns = now_ns()
        self._tcp = TcpFlow(lanes, back, self._upto_ns)
        self._under_way = bytearray()
        self._arrived = 0
        self._unwritten = 0
        self._ended = False
        self._finished = False
        self._timer: Timer | None = None
        note_arrivals(source.sock)
        self.reshaped()
        source.read = self._read
        sink.written = self._written

    def reshaped(self) -> None:
        """Go by what the lanes are now."""
        self._bound_bytes = pending_bytes_bound(self._lanes)
        self._receive_bytes = min(_RECEIVE_BYTES, self._bound_bytes // 2)
        self._tcp.reshaped()

    def resume(self) -> None:
        """Read, if nothing speaks against it."""
        if not self._owner.closed and not self._ended and self._has_room and not self._source.reading:
            self._upto_ns = max(now_ns(), self._upto_ns)  # what waited for room comes as it is taken
            self._source.set_reading(True)

    @property
    def _has_room(self) -> bool:
        return len(self._under_way) + self._unwritten < self._bound_bytes

    def _read(self) -> None:
        try:
            data, at_ns = receive(self._source.sock, self._receive_bytes)
        except BlockingIOError:
            return
        except OSError:
            self._owner.abort()
            return
        self._upto_ns = max(at_ns, self._upto_ns)
        if data:
            self._under_way += data
            self._tcp.offer(self._upto_ns, len(data))
        else:
            self._ended = True
            self._tcp.end(self._upto_ns)
        if self._ended or not self._has_room:
            self._source.set_reading(False)
        self._deliver()

    def _turn(self) -> None:
        self._timer = None
        if not self._owner.closed:
            self._upto_ns = max(now_ns(), self._upto_ns)
            self._tcp.advance(self._upto_ns)
            self._deliver()

    def _deliver(self) -> None:
        """Write what has arrived, and look again when the law has something to do."""
        size = self._tcp.arrived - self._arrived
        if size:
            data = bytes(self._under_way[:size])
            del self._under_way[:size]
            self._arrived += size
            self._unwritten += size
            if self._counted:
                messages = self._counter.feed(data) if self._counter else 0
                for lane in self._lanes:
                    lane.count(size, messages)
            self._sink.write(data)
        if self._tcp.ended and not self._finished:
            self._finished = True
            self._sink.finish()
        due_ns = self._tcp.due_ns
        if due_ns is None or self._owner.closed or (self._timer is not None and self._timer.due_ns <= due_ns):
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._reactor.call_at(due_ns, self._turn)

    def _written(self, size: int) -> None:
        had_room = self._has_room
        self._unwritten -= size
        if not had_room:
            self.resume()
