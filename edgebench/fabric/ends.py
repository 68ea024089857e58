"""One socket of a connection that a relay carries: what it has to write, and what it is watched for."""

from __future__ import annotations

import socket
from collections import deque
from collections.abc import Callable
from typing import Protocol

from edgebench.fabric.reactor import READ, WRITE, Reactor


class Connection(Protocol):
    """What two ends belong to."""

    closed: bool

    def abort(self) -> None:
        """Reset both ends at once."""

    def close_if_finished(self) -> None:
        """Close when both directions have delivered all that they had."""


class End:
    """read, written: called when there is something to read, and when so much was written."""

    def __init__(self, reactor: Reactor, sock: socket.socket, owner: Connection) -> None:
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
        """Whether to call `read`."""
        if reading != self.reading:
            self.reading = reading
            self._watch()

    def write(self, data: bytes) -> None:
        """Write, as soon as there is room."""
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
