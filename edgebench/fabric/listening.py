"""Where what a machine starts may listen: on loopback at any port, or at an address of its own within a range."""

from __future__ import annotations

import errno
import secrets
import socket

import msgspec

from edgebench.errors import FabricError

LOOPBACK = "127.0.0.1"
PORTS = (47_000, 47_999)
"""The first and the last at which parts of runs listen on a machine of a lab, unless it is told others."""
_BACKLOG = 1024


class Listening(msgspec.Struct, frozen=True):
    """host: an IP address. ports: the first and the last; None: any that is free."""

    host: str = LOOPBACK
    ports: tuple[int, int] | None = None


ON_LOOPBACK = Listening()


class FreePorts:
    """The ports within a range, tried one after another. Two programs that share it begin at different ones."""

    def __init__(self, at: Listening) -> None:
        self._at = at
        self._next = 0 if at.ports is None else secrets.randbelow(at.ports[1] + 1 - at.ports[0])

    @property
    def host(self) -> str:
        """The address."""
        return self._at.host

    def listen(self, port: int = 0) -> socket.socket:
        """A socket that listens at a port, or at the next that is free. Raises FabricError where there is none."""
        if port or self._at.ports is None:
            try:
                return self._bound(port)
            except OSError as error:
                raise FabricError(f"{self._at.host} port {port}: {error.strerror}") from error
        first, last = self._at.ports
        for _ in range(first, last + 1):
            port = first + self._next
            self._next = (self._next + 1) % (last + 1 - first)
            try:
                return self._bound(port)
            except OSError as error:
                if error.errno != errno.EADDRINUSE:
                    raise FabricError(f"{self._at.host} port {port}: {error.strerror}") from error
        raise FabricError(f"{self._at.host}: no port from {first} to {last} is free (give more: --ports FIRST-LAST)")

    def free(self) -> int:
        """A port for a program that listens by itself; 0 where it may choose one."""
        if self._at.ports is None:
            return 0
        with self.listen() as sock:
            port: int = sock.getsockname()[1]
            return port

    def _bound(self, port: int) -> socket.socket:
        family = socket.AF_INET6 if ":" in self._at.host else socket.AF_INET
        return socket.create_server((self._at.host, port), family=family, backlog=_BACKLOG)
