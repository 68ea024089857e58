"""Ports within a range."""

from __future__ import annotations

import contextlib
import socket

import pytest

from edgebench.errors import FabricError
from edgebench.fabric.listening import ON_LOOPBACK, FreePorts, Listening


def held_before_a_free_one() -> socket.socket:
    """A port that is in use, and not the next: of those that systems, as they come, give to nobody who asks for any, as
    other tests do meanwhile."""
    for port in range(20_000, 30_000, 2):
        with contextlib.suppress(OSError):
            socket.create_server(("127.0.0.1", port + 1)).close()
            return socket.create_server(("127.0.0.1", port))
    raise AssertionError("no two ports are free")


def port_of(sock: socket.socket) -> int:
    return int(sock.getsockname()[1])


def test_without_a_range_any_port_is_taken() -> None:
    ports = FreePorts(ON_LOOPBACK)
    with ports.listen() as one, ports.listen() as other:
        assert port_of(one) != port_of(other)
    assert ports.free() == 0


def test_a_port_in_use_is_passed_over_and_a_full_range_names_the_mend() -> None:
    with held_before_a_free_one() as taken:
        first = port_of(taken)
        ports = FreePorts(Listening("127.0.0.1", (first, first + 1)))
        with ports.listen() as other:
            assert port_of(other) == first + 1
            with pytest.raises(FabricError, match=f"no port from {first} to {first + 1} is free .give more: --ports"):
                ports.listen()
        assert ports.free() == first + 1


def test_an_address_that_is_not_this_machines_is_named() -> None:
    with pytest.raises(FabricError, match=r"192\.0\.2\.7 port 47000: "):
        FreePorts(Listening("192.0.2.7", (47000, 47000))).listen()
