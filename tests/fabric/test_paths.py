"""What the network between two machines does, measured over TLS: real sockets, and a relay whose delay is known."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgebench.clock import sleep_s
from edgebench.errors import FabricError
from edgebench.fabric.authority import Authority
from edgebench.fabric.links import Relay
from edgebench.fabric.paths import NetworkPath, PathServer
from edgebench.fabric.relay import Route
from edgebench.fabric.tls import Trust, client_context, server_context, tls_name
from edgebench.topology.deployment import LinkPlan

NAME = tls_name("ward")
SLOW = LinkPlan("bed", "ward", 20.0, 0.0, 4.0, 8.0, "bed -> ward")


@pytest.fixture(scope="module")
def trusts(tmp_path_factory: pytest.TempPathFactory) -> tuple[Trust, Trust]:
    """Of the ward, and of the bed."""
    folder = tmp_path_factory.mktemp("trusts")
    lab = Authority.create(folder / "authority")
    return lab.issue(folder / "ward", "ward"), lab.issue(folder / "bed", "bed")


@pytest.fixture
def served(trusts: tuple[Trust, Trust]) -> Iterator[int]:
    """The port of a server."""
    listening = socket.create_server(("127.0.0.1", 0))
    server = PathServer(listening, server_context(trusts[0], require_client_certificate=True))
    yield int(listening.getsockname()[1])
    server.close()


def test_delay_and_rates_are_those_of_the_way_between(served: int, trusts: tuple[Trust, Trust], tmp_path: Path) -> None:
    route = Route("way", (SLOW.name,), "127.0.0.1", served, "opaque")
    with Relay.start([SLOW], [route], seed=1, log_dir=tmp_path) as relay:
        path = NetworkPath(*relay.address("way"), client_context(trusts[1], mutual=True), NAME)
        measured = path.measure()
        path.watch()
        sleep_s(1.3)
        watched = path.close()
    # A busy machine adds to all of them. A round trip would be 40 ms, and the rate of the other way twice, or half.
    assert 19.0 <= measured.delay_ms < 35.0
    assert measured.up_mbit_s == pytest.approx(4.0, rel=0.4)
    assert measured.down_mbit_s == pytest.approx(8.0, rel=0.4)
    assert watched is not None
    assert watched.n >= 1
    assert 19.0 <= watched.delay_ms <= watched.most_delay_ms  # of two or three, on a machine that may be busy


def test_who_shows_no_certificate_of_the_lab_measures_nothing(served: int, trusts: tuple[Trust, Trust]) -> None:
    path = NetworkPath("127.0.0.1", served, client_context(trusts[1], mutual=False), NAME)
    with pytest.raises(FabricError, match=r"ward.edgebench.internal at 127.0.0.1: cannot be measured"):
        path.measure()
    path.close()


def test_a_path_that_is_not_watched_tells_nothing_of_the_run(served: int, trusts: tuple[Trust, Trust]) -> None:
    path = NetworkPath("127.0.0.1", served, client_context(trusts[1], mutual=True), NAME)
    path.measure()
    assert path.close() is None
