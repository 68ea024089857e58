"""Addresses that nobody serves: one swallows packets, another refuses connections."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def refusing() -> Iterator[int]:
    """A port of 127.0.0.1 that nobody listens at, nor is given: one that was closed may be another's in a moment."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield int(held.getsockname()[1])


@contextmanager
def swallowing() -> Iterator[int]:
    """A port of 127.0.0.1 that answers nothing: its queue is full, and the system drops what comes to it."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        port = int(listener.getsockname()[1])
        waiting = []
        for _ in range(4):
            sock = socket.socket()
            sock.setblocking(False)
            sock.connect_ex(("127.0.0.1", port))
            waiting.append(sock)
        try:
            yield port
        finally:
            for sock in waiting:
                sock.close()
