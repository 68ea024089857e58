"""A port that is kept for a server."""

from __future__ import annotations

import socket

import pytest

from edgebench.errors import FabricError
from edgebench.fabric.brokers.ports import Reservation


def test_a_server_that_reuses_addresses_can_listen_at_it_and_be_reached() -> None:
    held = Reservation("127.0.0.1")
    with socket.socket() as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        server.bind(("127.0.0.1", held.port))
        server.listen()
        with socket.create_connection(("127.0.0.1", held.port), 5.0) as client, server.accept()[0] as accepted:
            assert accepted.getpeername() == client.getsockname()
    held.release()


def test_nobody_else_is_given_it() -> None:
    held = [Reservation("127.0.0.1") for _ in range(200)]
    ports = {each.port for each in held}
    assert len(ports) == 200
    with socket.create_server(("127.0.0.1", 0)) as target:
        address = target.getsockname()
        others = [socket.create_connection(address, 5.0) for _ in range(50)]
        assert ports.isdisjoint(other.getsockname()[1] for other in others)
    for each in held:
        each.release()
    for other in others:
        other.close()


def test_one_that_is_taken_is_told() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(FabricError, match=f"port {port} of 127.0.0.1: Address already in use"):
            Reservation("127.0.0.1", port)
