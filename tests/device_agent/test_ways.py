"""How a device's samples travel: to a real broker, from a stream that keeps them until they are decided."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from device_agent.emulated_ways import EmulatedMqttWay
from device_agent.outbox import Outbox
from device_agent.ways import MqttWay
from edgebench.clock import now_ns, now_s
from edgebench.core.device import Device
from edgebench.core.emulation import Machine
from edgebench.core.samples import VERSION, Decision, Reading, Stamps
from edgebench.core.stream import Stream
from edgebench.core.tallies import Tally
from edgebench.fabric import topics
from edgebench.fabric.brokers import BrokerSettings, make_broker
from edgebench.fabric.endpoints import parse_broker_url
from edgebench.fabric.mqtt import Connection
from edgebench.fabric.reactor import Reactor
from edgebench.topology.model import Load, SingleStream, Store, Trace
from tests.core.ward import plan
from tests.profiles import message, profile

WAIT_S = 20.0


class Zeros:
    """Samples of so many bytes."""

    dtype = "uint8"

    def __init__(self, size_bytes: int) -> None:
        self.shape: tuple[int, ...] = (size_bytes,)

    def capture(self) -> Reading:
        return Reading(np.zeros(self.shape, np.uint8), b"")


class Bed:
    """A device; nobody but the test decides its samples."""

    def __init__(self, folder: Path) -> None:
        self.reactor = Reactor()
        self.broker = make_broker(BrokerSettings("ward", folder / "broker")).start()
        self.tally = Tally()
        self._folder = folder
        self._outboxes: list[Outbox] = []
        self._ups: list[None] = []
        self.heard_s: list[float] = []
        self.connection = Connection(
            self.reactor,
            parse_broker_url(self.broker.url),
            "bed",
            on_message=lambda _topic, _payload: self.heard_s.append(now_s()),
            on_up=lambda: self._ups.append(None),
        )
        self.connection.start()
        self.turn_until(lambda: bool(self._ups))

    def begin(
        self,
        load: Load,
        trace_s: list[float],
        size_bytes: int = 100,
        machine: Machine | None = None,
        *,
        moves: bool = False,
    ) -> tuple[Stream, MqttWay]:
        """moves: the device does, and keeps nothing on disk."""
        workload, sensor = plan(load=load, store=Store(max_mb=3)), Zeros(size_bytes)
        outbox = None
        if not moves:
            outbox = Outbox(self._folder / "w.outbox", workload, "process", self.reactor)
            self._outboxes.append(outbox)
        common = ("run", Device("bed", "ward"), workload, sensor, {"bed": self.connection})
        if machine is None:
            way = MqttWay(*common, moves=moves, outbox=outbox)
        else:
            way = EmulatedMqttWay(*common, moves=moves, outbox=outbox, machine=machine)
        stream = Stream("bed", workload, sensor, way, self.tally, self.reactor, [], kept=True)
        stream.begin(now_ns(), seed=1, duration_s=60.0, trace_s=trace_s)
        return stream, way

    def turn_until(self, happened: Callable[[], bool]) -> None:
        until_s = now_s() + WAIT_S
        while not happened():
            assert now_s() < until_s, "did not happen"
            self.reactor.call_later(0.01, lambda: None)
            self.reactor.turn()

    def close(self) -> None:
        self.connection.close()
        for outbox in self._outboxes:
            outbox.close()
        self.reactor.close()
        self.broker.stop()


@pytest.fixture
def bed(tmp_path: Path) -> Iterator[Bed]:
    made = Bed(tmp_path)
    yield made
    made.close()


def test_of_samples_that_are_decided_nothing_is_remembered_but_the_last_few(bed: Bed) -> None:
    stream, way = bed.begin(SingleStream(), [])
    bed.turn_until(lambda: bool(stream.pending))
    for seq in range(200):
        bed.turn_until(lambda: way._deliveries[0, seq].acknowledged)  # noqa: B023
        stream.decided(Decision(VERSION, seq, 0, "ward", "d" * 64, b"", 1, Stamps(1, 1, 1, 1, 1)), now_ns(), 100)
    assert bed.tally.decided == 200
    assert len(way._deliveries) <= 20


def test_what_is_still_on_its_way_does_not_set_out_again_however_much_it_is(bed: Bed) -> None:
    bed.broker.stop()
    bed.turn_until(lambda: not bed.connection.connected)
    stream, way = bed.begin(Trace(file=""), [0.0] * 100)
    bed.turn_until(lambda: len(stream.pending) == 100)
    stream.send_again(moved=False)
    assert len(way._deliveries) == len(bed.connection._in_flight._waiting) == 100


def test_a_sample_that_has_no_room_is_not_kept_in_memory_either_and_never_sent(bed: Bed) -> None:
    stream, way = bed.begin(Trace(file=""), [0.0] * 5, size_bytes=1_000_000)
    bed.turn_until(lambda: bed.tally.scheduled == 5)
    assert bed.tally.dropped == {"store-full": 3}
    assert list(stream.pending) == [0, 1]
    stream.send_again(moved=True)
    assert list(way._deliveries) == [(0, 0), (0, 1)]


def test_an_emulated_device_takes_its_time_for_each_sample_that_it_sends_again_and_sends_each_once(bed: Bed) -> None:
    bed.connection.subscribe([topics.sample("run", "bed", "w")], 1)
    bed.turn_until(lambda: len(bed._ups) == 2)
    slow = profile(messages=tuple(message(size_bytes, 0.0, 0.0, 100.0) for size_bytes in (100, 100_000)))
    machine = Machine("bed", slow, bed.reactor, 1, has_broker=False)
    stream, way = bed.begin(Trace(file=""), [0.0] * 3, machine=machine)
    bed.turn_until(lambda: len(bed.heard_s) == 3 and all(each.acknowledged for each in way._deliveries.values()))
    asked_s = now_s()
    for _ in range(2):  # what is on its way is left alone
        stream.send_again(moved=False)
    bed.turn_until(lambda: len(bed.heard_s) == 6)
    heard_all_s = now_s()
    bed.turn_until(lambda: now_s() > heard_all_s + 0.3)  # a seventh would have come by then
    assert len(bed.heard_s) == 6
    for count, heard_s in enumerate(bed.heard_s[3:], start=1):
        assert heard_s - asked_s >= 0.1 * count - 0.005


def test_what_an_emulated_device_has_yet_to_send_as_it_comes_to_a_site_is_sent_there_once(bed: Bed) -> None:
    bed.connection.subscribe([topics.sample("run", "bed", "w")], 1)
    bed.turn_until(lambda: len(bed._ups) == 2)
    slow = profile(messages=tuple(message(size_bytes, 0.0, 0.0, 100.0) for size_bytes in (100, 100_000)))
    machine = Machine("bed", slow, bed.reactor, 1, has_broker=False)
    stream, _ = bed.begin(Trace(file=""), [0.0] * 3, machine=machine, moves=True)
    bed.turn_until(lambda: len(stream.pending) == 3)
    stream.send_again(moved=True)  # all three still wait for their device to send them
    bed.turn_until(lambda: len(bed.heard_s) == 3)
    heard_all_s = now_s()
    bed.turn_until(lambda: now_s() > heard_all_s + 0.4)
    assert len(bed.heard_s) == 3
    for _ in range(2):
        stream.send_again(moved=True)
    bed.turn_until(lambda: len(bed.heard_s) == 6)
    heard_all_s = now_s()
    bed.turn_until(lambda: now_s() > heard_all_s + 0.4)
    assert len(bed.heard_s) == 6
