"""The device agent: senses on schedule, publishes, receives decisions, and writes down every sample.

One process hosts one device or a thousand; each has its own MQTT connection, all share one thread.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING

from device_agent.comings import Comings
from device_agent.outbox import Outbox, Recorded, key_of
from device_agent.sensors.live import Feed, LiveSensor, LiveSensors
from device_agent.sensors.sensor import Sensor
from device_agent.ways import MqttWay, OnBoard
from edgebench.clock import NS_PER_S, now_ns
from edgebench.core.device import Device
from edgebench.core.pending import EarlierLives
from edgebench.core.samples import Decision, RejectedError, SampleKey, SampleRecord
from edgebench.core.stream import Stream
from edgebench.fabric import topics, wire
from edgebench.fabric.endpoints import parse_own_broker_url
from edgebench.fabric.mqtt import Connection, close_all
from edgebench.fabric.node_process import NodeProcess
from edgebench.fabric.records import SampleRows, Sensed
from edgebench.fabric.sensors import SensorError
from edgebench.fabric.slices import RunState
from edgebench.inference.runtime import Runtime
from edgebench.inference.spec import Manifest
from edgebench.topology.deployment import WorkloadPlan
from edgebench.topology.model import After, Move
from edgebench.topology.wording import listed

if TYPE_CHECKING:
    from device_agent.emulated_ways import EmulatedHeads, EmulatedOnBoard
    from device_agent.head_ways import Heads, HeadWay
    from device_agent.learning import Learning
    from edgebench.core.emulation import Machine

_log = logging.getLogger(__name__)
_TICK_S = 0.25
_COMING_BACK_S = 60.0
"""So long somebody who was started again at the end, with samples to send, may take to be connected."""


class DeviceAgent:
    """All devices of one process."""

    def __init__(
        self,
        process: NodeProcess,
        sensors: Mapping[tuple[str, str], Sensor],
        learning: Learning | None = None,
        live: LiveSensors | None = None,
    ) -> None:
        """sensors: (device, workload) -> its source of samples. learning: where any of the devices learns. live: those
        of the sensors that are really there, if any."""
        self.process = process
        self._learning = learning
        self._live = live or LiveSensors({}, {}, [], [])
        self.run_id = process.plan.run_id
        self.rows: list[SampleRecord] = []
        self.connections: dict[str, Connection] = {}
        self._devices = {name: Device(name, str(node.parent)) for name, node in process.plan.nodes.items()}
        self._streams: dict[str, Stream] = {}
        self._on_board: dict[str, OnBoard | EmulatedOnBoard] = {}
        self._heads: dict[str, Heads | EmulatedHeads] = {}
        """Models of devices, by workload: that decide, and that do the first stage of a chain."""
        emulated = {name: process.emulated(name, has_broker=False) for name in process.nodes}
        self._machines = {name: machine for name, machine in emulated.items() if machine is not None}
        self._hears_of_models: dict[str, str] = {}
        """Workload -> the device by whose connection its models are announced: one that decides with them."""
        self._models: dict[str, str] = {}
        self._qos_of: dict[str, int] = {}
        self._comings = Comings(process, come=self._come, go=self._go)
        self._outboxes = self._opened_outboxes()
        self._recorded = self._read_records() if process.incarnation else None
        self._recording: dict[str, list[SampleKey]] = {}
        self._asked: dict[str, tuple[str, bytes]] = {}
        """Device -> where its edge asks for what is undecided, and how it did so last."""
        self._waiting_for: set[str] = set(process.nodes)
        self._there_since_ns = now_ns()
        self._start_ns: int | None = None
        self._end_ns = 0
        self._begun = False
        self._yet_to_begin: dict[tuple[str, str], Stream] = {}
        """In a later life, streams whose sensors have given nothing yet, by device and workload."""
        for (device, workload), sensor in sensors.items():
            self._add_stream(self._devices[device], process.plan.workloads[workload], sensor)
        self._recorded = None  # the streams have it, and forget what is decided
        for each in self._devices.values():
            _let_follow(each.streams)

    def _add_stream(self, device: Device, plan: WorkloadPlan, sensor: Sensor) -> None:
        way: MqttWay | OnBoard | EmulatedOnBoard | HeadWay
        if plan.head_on_device:
            way = self._head_way_of(device, plan, sensor)
        elif plan.deciders[device.name] != device.name:
            way = self._way_of(device, plan, sensor)
        elif plan.name in self._on_board:
            way = self._on_board[plan.name]
        else:
            way = self._on_board[plan.name] = self._board_of(plan)
            self._waiting_for.add(plan.name)
        if plan.has_model(device.name) and self._hears_of_models.get(plan.name) in (
            None,
            *self.process.plan.presence,
        ):
            self._hears_of_models[plan.name] = device.name  # one that is there all the time, if any
        tally = self.process.tally(device.name, plan.name)
        expected = self.process.plan.expected.get(plan.name)
        stream = Stream(
            device.name,
            plan,
            sensor,
            way,
            tally,
            self.process.reactor,
            self.rows,
            expected,
            self.process.incarnation,
            self._earlier_lives(device.name, plan.name),
            kept=plan.name in self._outboxes and plan.deciders[device.name] != device.name,
        )
        self._streams[topics.decision(self.run_id, device.name, plan.name)] = stream
        device.streams.append(stream)

    def _way_of(self, device: Device, plan: WorkloadPlan, sensor: Sensor) -> MqttWay:
        moves = any(move.node == device.name for move in self.process.plan.moves)
        machine, outbox = self._machines.get(device.name), self._outboxes.get(plan.name)
        common = (self.run_id, device, plan, sensor, self.connections)
        if machine is None:
            return MqttWay(*common, moves=moves, outbox=outbox)
        from device_agent.emulated_ways import EmulatedMqttWay

        return EmulatedMqttWay(*common, moves=moves, machine=machine, outbox=outbox)

    def _head_way_of(self, device: Device, plan: WorkloadPlan, sensor: Sensor) -> HeadWay:
        from device_agent.head_ways import HeadWay

        if plan.name not in self._heads:
            self._heads[plan.name] = self._heads_of(plan)
            self._waiting_for.add(plan.name)
        return HeadWay(device.name, self._way_of(device, plan, sensor), self._heads[plan.name])

    def _heads_of(self, plan: WorkloadPlan) -> Heads | EmulatedHeads:
        common = (plan, self.process.reactor, partial(self._swapped, plan))
        if machines := self._machines_with_model(plan):
            from device_agent.emulated_ways import EmulatedHeads

            return EmulatedHeads(*common, machines)
        from device_agent.head_ways import Heads

        return Heads(*common)

    def _board_of(self, plan: WorkloadPlan) -> OnBoard | EmulatedOnBoard:
        common = (plan, self.process.reactor, partial(self._swapped, plan))
        if machines := self._machines_with_model(plan):
            from device_agent.emulated_ways import EmulatedOnBoard

            return EmulatedOnBoard(*common, machines)
        return OnBoard(*common)

    def _machines_with_model(self, plan: WorkloadPlan) -> dict[str, Machine]:
        return {name: machine for name, machine in self._machines.items() if plan.has_model(name)}

    def _opened_outboxes(self) -> dict[str, Outbox]:
        """Where samples that travel are kept, by workload; none where nothing is promised of them."""
        plan = self.process.plan
        if plan.durability == "none":
            return {}
        return {
            name: Outbox(self.process.store_dir / f"{name}.outbox", each, plan.durability, self.process.reactor)
            for name, each in plan.workloads.items()
            if any(each.deciders.get(device, device) != device for device in self.process.nodes)
        }

    def _read_records(self) -> Recorded:
        """What earlier lives have recorded is kept no longer."""
        kept = {name: outbox.undecided() for name, outbox in self._outboxes.items()}
        recorded = Recorded(self.process.spool_path, kept)
        for name, keys in recorded.done.items():
            self._outboxes[name].drop(keys)
        return recorded

    def _earlier_lives(self, device: str, workload: str) -> EarlierLives:
        return EarlierLives() if self._recorded is None else self._recorded.of(device, workload)

    def run(self) -> None:
        """Serve until the run ends."""
        for stream in self._streams.values():
            self._qos_of[stream.device] = max(stream.plan.qos, self._qos_of.get(stream.device, 0))
        hearing = set(self._hears_of_models.values())
        there = [device for device in self._qos_of if device not in self._comings.absent or device in hearing]
        for device in there:
            self._connect(device).start()
        self._waiting_for &= {*there, *self._on_board, *self._heads}
        self._begin_sensing()
        self.process.ready = not self._waiting_for
        self.process.run(
            on_phase=self._phase_changed,
            on_abort=self._broken_off,
            before_flush=self._hand_over_rows,
            before_write=self._sync_outboxes,
            after_flush=self._drop_recorded,
            on_model=self._model_ready,
        )
        if self._learning is not None:
            self._learning.close()
        for outbox in self._outboxes.values():
            outbox.close()
        close_all(self.connections.values())

    def _begin_sensing(self) -> None:
        """Streams begin once each live sensor has given something; in a later life each waits for its own alone."""
        soon = self.process.reactor.call_soon_threadsafe
        for key, sensor in self._live.sensors.items():
            if not self.process.incarnation:
                self._waiting_for.add(sensor.about)
            sensor.on_first = partial(soon, partial(self._sensor_begins, key))
            self.process.write(Sensed(*key, self._live.kinds[key]))
        for feed in self._live.feeds:
            feed.start(lambda why, feed=feed: soon(partial(self._sensor_ended, feed, why)))  # type: ignore[misc]
        self.process.waits = self._silent_sensors
        self.process.still_comes = self._samples_come

    def _awaited_sensors(self) -> list[LiveSensor]:
        return [each for each in self._live.sensors.values() if each.about in self._waiting_for]

    def _samples_come(self) -> bool:
        """Whether each sensor that is waited for is filling its first window."""
        awaited = self._awaited_sensors()
        return bool(awaited) and all(sensor.is_filling for sensor in awaited)

    def _silent_sensors(self) -> str:
        awaited = self._awaited_sensors()
        why = next((f": {each.complaint}" for each in awaited if each.complaint), "")
        silent = [each.about for each in awaited if not each.is_filling]
        if silent:
            return f"{listed(silent)} has given nothing yet{why}"
        filling = [each.about for each in awaited]
        return f"{listed(filling)} has given readings, and no whole sample yet{why}" if filling else ""

    def _sensor_begins(self, key: tuple[str, str]) -> None:
        """It has given something, or never will."""
        stream = self._yet_to_begin.pop(key, None)
        if stream is not None:
            self._begin_stream(stream)
        self._no_longer_waiting_for(self._live.sensors[key].about)

    def _sensor_ended(self, feed: Feed, why: str) -> None:
        about = listed([sensor.about for sensor in feed.sensors])
        if not self._end_ns and not self.process.incarnation:
            raise SensorError(f"{about}: {why}")
        _log.error("%s: %s; what is due from now on is dropped", about, why)
        for key, sensor in self._live.sensors.items():
            if sensor in feed.sensors:
                self._sensor_begins(key)

    def _connect(self, device: str, edge: str | None = None) -> Connection:
        """A connection to the broker of a device's site, or to that of another; it is yet to be started."""
        plan = self.process.plan
        endpoints = plan.endpoints[device]
        url = endpoints.broker if edge is None or edge not in endpoints.elsewhere else endpoints.elsewhere[edge]
        connection = Connection(
            self.process.reactor,
            parse_own_broker_url(url),
            # Another session each time: what the last one at a site has missed was decided elsewhere.
            f"{self.run_id}-{device}" + (f"-{len(self._devices[device].sites)}" if edge is not None else ""),
            on_message=partial(self._received_or_asked, device) if self._outboxes else self._received,
            on_up=partial(self._is_up, device),
            will=(topics.status(self.run_id, device), b"offline"),
            session_key=self.process.token,
            seals=plan.durability != "none",
            on_damaged=self._damaged,
        )
        connection.subscribe([topics.decision(self.run_id, device, topics.ANY)], self._qos_of[device])
        parent = plan.nodes[device].parent if edge is None else edge
        if self._outboxes and parent is not None:
            self._asked[device] = topics.asks(self.run_id, parent), b""
            connection.subscribe([self._asked[device][0]], 0)
        hears = [workload for workload, by in self._hears_of_models.items() if by == device]
        if hears and parent is not None:
            announced = {topics.site_models(self.run_id, parent, workload): workload for workload in hears}
            self._models |= announced
            connection.subscribe(list(announced), 1)
        if self._learning is not None:
            self._learning.attach(device, connection)
        self.connections[device] = connection
        return connection

    def _move(self, move: Move) -> None:
        """Leave a site for another, with all that is undecided."""
        self.connections[move.node].abandon()
        unfinished = self._devices[move.node].leave(move.to, now_ns())
        if unfinished is not None:
            self.process.write(unfinished)
        self._connect(move.node, move.to).start()

    def _come(self, device: str) -> None:
        if device not in self._qos_of:
            return  # it streams nothing
        if device in self._hears_of_models.values():
            self._tell_status(device)
        else:
            self._connect(device).start()

    def _go(self, device: Device) -> None:
        if device.name not in self._qos_of:
            return
        self._tell_status(device.name)
        if device.name not in self._hears_of_models.values():
            self.connections[device.name].depart()

    def _tell_status(self, device: str) -> None:
        status = b"offline" if device in self._comings.absent else b"online"
        self.connections[device].publish(topics.status(self.run_id, device), status, qos=1, retain=True)

    def _is_up(self, device: str) -> None:
        moved = self._devices[device].is_up(now_ns())
        if moved is not None:
            self.process.write(moved)
        self._tell_status(device)
        if self._learning is not None:
            self._learning.reconnected(device)
        self._no_longer_waiting_for(device)

    def _no_longer_waiting_for(self, what: str) -> None:
        self._waiting_for.discard(what)
        self.process.ready = not self._waiting_for
        self._begin_when_ready()

    def _received_or_asked(self, device: str, topic: str, payload: bytes) -> None:
        asks, last = self._asked[device]
        if topic != asks:
            self._received(topic, payload)
        elif payload != last:
            self._asked[device] = asks, payload
            for stream in self._devices[device].streams:
                stream.send_again(moved=False)

    def _damaged(self, topic: str) -> None:
        stream = self._streams.get(topic)
        if stream is not None:
            stream.tally.reject("damaged")

    def _received(self, topic: str, payload: bytes) -> None:
        arrived_ns = now_ns()
        stream = self._streams.get(topic)
        if stream is None:
            if self._learning is not None and self._learning.takes(topic, payload):
                return
            workload = self._models.get(topic)
            if workload is not None:
                self.process.announced(self._hears_of_models[workload], workload, payload)
            return
        if wire.is_plain(payload):
            return  # the answer to a plain JSON sample that somebody sent in this device's name
        try:
            decision = wire.parse_decision(payload)
        except RejectedError as rejected:
            stream.tally.reject(rejected.reason)
            return
        machine = self._machines.get(stream.device) if self._machines else None
        if machine is None:
            stream.decided(decision, arrived_ns, len(payload))
        else:
            heard = partial(_heard, machine, stream, decision, arrived_ns, len(payload))
            machine.hears(len(payload), stream.plan.qos, heard)

    def _model_ready(self, workload: str, runtime: Runtime, manifest: Manifest) -> None:
        (self._heads.get(workload) or self._on_board[workload]).use(runtime, manifest)
        self.process.reactor.call_soon_threadsafe(partial(self._no_longer_waiting_for, workload))

    def _swapped(self, plan: WorkloadPlan, manifest: Manifest) -> None:
        for device in self.process.nodes:
            if plan.has_model(device):
                self.process.swapped(device, plan.name, manifest)

    def _phase_changed(self, state: RunState) -> None:
        if state.phase == "running" and state.start_ns is not None:
            self._start_ns = state.start_ns
            self._end_ns = state.start_ns + int(self.process.plan.duration_s * NS_PER_S)
            self._begin_when_ready()
            self.process.reactor.call_at(state.start_ns, self._tick)
        elif state.phase == "ending":
            self._write_lost()
            if self._learning is not None:
                self._learning.note_usage()
            self.process.finish()

    def _begin_when_ready(self) -> None:
        """All are ready when the streams begin; whoever is started again meanwhile comes to it later."""
        if self._begun or self._start_ns is None or self._waiting_for:
            return
        self._begun = True
        for stream in self._streams.values():
            key = stream.device, stream.plan.name
            if self.process.incarnation and key in self._live.sensors and self._live.sensors[key].is_awaited:
                self._yet_to_begin[key] = stream  # what is due meanwhile is missed
            else:
                self._begin_stream(stream)
        self._comings.begin(self._start_ns, self._devices)
        for move in self.process.plan.moves:
            if move.node in self._qos_of:
                self.process.reactor.call_at(self._start_ns + int(move.at_s * NS_PER_S), partial(self._move, move))

    def _begin_stream(self, stream: Stream) -> None:
        plan = self.process.plan
        assert self._start_ns is not None
        trace_s = plan.traces.get(stream.plan.paced_by or stream.plan.name, [])
        present = self._comings.spans_ns(stream.device)
        stream.begin(self._start_ns, seed=plan.seed, duration_s=plan.duration_s, trace_s=trace_s, present=present)

    def _tick(self) -> None:
        now = now_ns()
        if now >= self._end_ns:
            for key in [*self._yet_to_begin]:
                self._sensor_begins(key)
        if self._outboxes and self._begun:
            for stream in self._streams.values():
                if stream.device in self.connections:
                    stream.send_again_if_silent(now)
        if now < self._end_ns:
            for stream in self._streams.values():
                stream.give_up_query(now)
        elif self._is_drained(now):
            self.process.drained = True
            return
        self.process.reactor.call_later(_TICK_S, self._tick)

    def _is_drained(self, now: int) -> bool:
        if not self._begun:
            return now - max(self._end_ns, self._there_since_ns) > _COMING_BACK_S * NS_PER_S
        last_sign_ns = max((stream.last_arrival_ns for stream in self._streams.values()), default=0)
        for stream in self._streams.values():
            until_ns = stream.waits_until_ns(last_sign_ns)
            if until_ns is not None and now < until_ns:
                return False
        return True

    def _write_lost(self) -> None:
        for device in self._devices.values():
            unfinished = device.give_up()
            if unfinished is not None:
                self.process.write(unfinished)

    def _broken_off(self) -> None:
        if not self._outboxes:  # else a next life goes on with it
            self._write_lost()

    def _sync_outboxes(self) -> None:
        """Else the counts, which are written next, would outlive samples that they count."""
        for outbox in self._outboxes.values():
            outbox.sync()

    def _hand_over_rows(self) -> None:
        if self.rows:
            self.process.write(SampleRows(self.rows[:]))
            if self._outboxes:
                for row in self.rows:
                    self._recording.setdefault(row.workload, []).append(key_of(row))
            self.rows.clear()

    def _drop_recorded(self) -> None:
        for workload, keys in self._recording.items():
            if workload in self._outboxes:
                self._outboxes[workload].drop(keys)
        self._recording.clear()


def _heard(
    machine: Machine, stream: Stream, decision: Decision, arrived_ns: int, reply_bytes: int, due_ns: int
) -> None:
    """An emulated device knows of a decision that came to it."""
    machine.released(arrived_ns, due_ns)
    stream.decided(decision, machine.time.now_ns(), reply_bytes)


def _let_follow(streams: list[Stream]) -> None:
    """Have each stream of a device that waits for others told of their decisions."""
    by_workload = {stream.plan.name: stream for stream in streams}
    for stream in streams:
        if isinstance(stream.plan.load, After):
            for before in stream.plan.load.workloads:
                by_workload[before].followers.append(stream)
