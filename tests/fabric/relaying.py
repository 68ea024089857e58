"""A relay between sockets of the test's own."""

from __future__ import annotations

import socket

from edgebench.fabric.links import Relay
from edgebench.fabric.relay import Route
from edgebench.topology.deployment import LinkPlan

WAIT_S = 30.0
BED, WARD = "bed -> ward", "ward -> cloud"


def link(name: str, latency_ms: float = 0.0, rate: float | None = None, pipe: str | None = None) -> LinkPlan:
    """A link of the same rate both ways."""
    child, parent = name.split(" -> ")
    return LinkPlan(child, parent, latency_ms, 0.0, rate, rate, pipe or name)


class Server:
    """Accepts one connection after another, for the test to use."""

    def __init__(self) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.listener.settimeout(WAIT_S)

    def route(self, *via: str, name: str = "r", protocol: str = "http") -> Route:
        """A route to it."""
        return Route(name, via, "127.0.0.1", self.listener.getsockname()[1], protocol)  # type: ignore[arg-type]

    def accept(self) -> socket.socket:
        """The next connection."""
        connection, _ = self.listener.accept()
        connection.settimeout(WAIT_S)
        return connection


def connect(relay: Relay, route: str = "r") -> socket.socket:
    """A connection to a route."""
    connection = socket.create_connection(relay.address(route))
    connection.settimeout(WAIT_S)
    return connection


def read_all(connection: socket.socket) -> bytes:
    """All that comes, up to the end."""
    data = bytearray()
    while piece := connection.recv(1 << 16):
        data += piece
    return bytes(data)


def is_over(connection: socket.socket, within_s: float = WAIT_S) -> bool:
    """Whether a connection ends, by a reset or in good order, within a time."""
    connection.settimeout(within_s)
    try:
        return connection.recv(1) == b""
    except ConnectionError:
        return True
    except TimeoutError:
        return False
