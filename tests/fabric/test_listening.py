"""Ports within a range."""

from __future__ import annotations

import socket

import pytest

from edgebench.errors import FabricError
from edgebench.fabric.listening import ON_LOOPBACK, FreePorts, Listening


def held() -> socket.socket:
    return socket.create_server(("127.0.0.1", 0))


def port_of(sock: socket.socket) -> int:
    return int(sock.getsockname()[1])


def test_without_a_range_any_port_is_taken() -> None:
    ports = FreePorts(ON_LOOPBACK)
    with ports.listen() as one, ports.listen() as other:
        assert port_of(one) != port_of(other)
    assert ports.free() == 0


def test_a_port_in_use_is_passed_over_and_a_full_range_names_the_mend() -> None:
    with held() as taken:
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
