"""Ports for servers that cannot choose one themselves."""

from __future__ import annotations

import socket
import sys

from edgebench.errors import FabricError

_IS_HELD = sys.platform.startswith("linux")


class Reservation:
    """A TCP port that the system gives to nobody who does not ask for it by its number.

    On Linux it is held until `release`: a socket of ours is bound to it without listening. A server that sets
    SO_REUSEADDR, as servers do, can bind to it besides. Elsewhere that is not so, and the port is only known to have
    been free.
    """

    def __init__(self, host: str, port: int = 0) -> None:
        """host: an IP address of this machine. port: 0 for any that is free. Raises FabricError where it is taken."""
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._socket = socket.socket(family, socket.SOCK_STREAM)
        try:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self._socket.bind((host, port))
        except OSError as error:
            self._socket.close()
            raise FabricError(f"port {port} of {host}: {error.strerror}") from error
        self.port: int = self._socket.getsockname()[1]
        if not _IS_HELD:
            self.release()

    def release(self) -> None:
        """Give it back; released before is fine."""
        self._socket.close()
