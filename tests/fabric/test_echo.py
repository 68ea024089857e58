"""How long a message takes to a broker and back, told apart from what waits there besides."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest

from edgebench.clock import NS_PER_MS, now_s, sleep_s
from edgebench.fabric.brokers import BrokerSettings, make_broker
from edgebench.fabric.echo import Echo
from edgebench.fabric.endpoints import parse_broker_url
from edgebench.fabric.mqtt import Connection
from edgebench.fabric.reactor import Reactor

TOPIC = "eb/r/ward/echo"
BUSY_MS = 120


class Edge:
    """A connection to a broker of its own. busy: it has something else to do for 120 ms before three of four echoes.
    lost: so many echoes, the first, never reach it."""

    def __init__(self, folder: Path, *, busy: bool = False, lost: int = 0) -> None:
        self._reactor = Reactor()
        self._broker = make_broker(BrokerSettings("ward", folder)).start()
        self._busy = busy
        self._lost = lost
        self._number = count()
        self._found: list[int] = []
        url = parse_broker_url(self._broker.url)
        self._connection = Connection(self._reactor, url, "ward", on_message=self._heard, on_up=self._is_up)

    def measured_ns(self) -> int:
        self._echo = Echo(self._reactor, self._connection, TOPIC, self._found.append)
        self._connection.start()
        until_s = now_s() + 20.0
        while not self._found:
            assert now_s() < until_s, "nothing was found out"
            self._reactor.call_later(0.01, lambda: None)
            self._reactor.turn()
        return self._found[0]

    def _is_up(self) -> None:
        self._echo.begin()

    def _heard(self, topic: str, payload: bytes) -> None:
        number = next(self._number)
        if number < self._lost:
            return
        if self._busy and number % 4:
            sleep_s(BUSY_MS / 1e3)
        assert self._echo.takes(topic, payload)

    def close(self) -> None:
        self._connection.close()
        self._reactor.close()
        self._broker.stop()


@pytest.fixture
def edges(tmp_path: Path) -> Iterator[list[Edge]]:
    made = [Edge(tmp_path / "busy", busy=True), Edge(tmp_path / "lost", lost=1)]
    yield made
    for each in made:
        each.close()


def test_what_came_between_is_no_part_of_what_a_message_takes(edges: list[Edge]) -> None:
    busy, lost = edges
    assert busy.measured_ns() < BUSY_MS * NS_PER_MS
    began_s = now_s()
    assert lost.measured_ns() < BUSY_MS * NS_PER_MS  # it is sent again, and counts from then on
    assert now_s() - began_s > 1.0
