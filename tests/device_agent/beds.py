"""A device with a real broker, for tests of how its samples travel."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np

from device_agent.emulated_ways import EmulatedMqttWay
from device_agent.outbox import Outbox
from device_agent.ways import MqttWay
from edgebench.clock import now_ns, now_s
from edgebench.core.device import Device
from edgebench.core.emulation import Machine
from edgebench.core.samples import Reading
from edgebench.core.stream import Stream
from edgebench.core.tallies import Tally
from edgebench.fabric import wire
from edgebench.fabric.brokers import BrokerSettings, make_broker
from edgebench.fabric.endpoints import parse_broker_url
from edgebench.fabric.mqtt import Connection
from edgebench.fabric.reactor import Reactor
from edgebench.topology.deployment import WorkloadPlan
from edgebench.topology.model import Load, Store
from tests.core.ward import plan

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
        self.ups = 0
        self.heard_s: list[float] = []
        self.heard: list[wire.Sample] = []
        self.connection = Connection(
            self.reactor,
            parse_broker_url(self.broker.url),
            "bed",
            on_message=self._hear,
            on_up=self._is_up,
        )
        self.connection.start()
        self.turn_until(lambda: self.ups > 0)

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
        way = self.way(workload, sensor, machine=machine, moves=moves, outbox=outbox)
        stream = Stream("bed", workload, sensor, way, self.tally, self.reactor, [], kept=True)
        stream.begin(now_ns(), seed=1, duration_s=60.0, trace_s=trace_s)
        return stream, way

    def way(
        self,
        workload: WorkloadPlan,
        sensor: Zeros,
        *,
        machine: Machine | None = None,
        moves: bool = False,
        outbox: Outbox | None = None,
    ) -> MqttWay:
        """To the site. machine: that the device is emulated to run on."""
        common = ("run", Device("bed", "ward"), workload, sensor, {"bed": self.connection})
        if machine is None:
            return MqttWay(*common, moves=moves, outbox=outbox)
        return EmulatedMqttWay(*common, moves=moves, outbox=outbox, machine=machine)

    def _hear(self, _topic: str, payload: bytes) -> None:
        self.heard_s.append(now_s())
        self.heard.append(msgspec.msgpack.decode(payload, type=wire.Sample))

    def _is_up(self) -> None:
        self.ups += 1

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
