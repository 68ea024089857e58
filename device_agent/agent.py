"""The device agent: senses on schedule, publishes, receives decisions, and writes down every sample.

One process hosts one device or a thousand; each has its own MQTT connection, all share one thread.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from functools import partial

import msgspec

from device_agent.learning import Learning
from device_agent.loads import open_loop, query_size
from device_agent.sensor import Sensor
from edgebench.clock import NS_PER_S, now_ns
from edgebench.fabric import topics, wire
from edgebench.fabric.endpoints import parse_broker_url
from edgebench.fabric.mqtt import Connection
from edgebench.fabric.node_process import NodeProcess
from edgebench.fabric.pictures import JPEG, compressed
from edgebench.fabric.records import Moved, Rows, SampleRecord, Tally
from edgebench.fabric.slices import RunState
from edgebench.inference.runtime import Runtime
from edgebench.inference.serving import ModelServer, Request, Served
from edgebench.inference.spec import Manifest
from edgebench.topology.deployment import WorkloadPlan
from edgebench.topology.model import After, Batch, Move, Offline

_log = logging.getLogger(__name__)
_DRAIN_QUIET_S = 5.0
_CLOSED_LOOP_PATIENCE_S = 10.0
_TICK_S = 0.25
_AGAINST_OVERRUN = 64
"""Samples sent in one turn of the loop at most, so that decisions are read meanwhile."""
_BACKED_UP_S = 0.001
"""How soon an offline load looks again whether its connection takes more."""


class Pending(msgspec.Struct, frozen=True, array_like=True):
    """A sample on its way. envelope: only of a device that may have to send it again from elsewhere."""

    scheduled_ns: int
    captured_ns: int
    sent_ns: int | None
    size_bytes: int
    label: bytes
    envelope: bytes = b""


class Stream:
    """One workload on one device."""

    def __init__(self, agent: DeviceAgent, device: str, plan: WorkloadPlan, sensor: Sensor, tally: Tally) -> None:
        self.device = device
        self.plan = plan
        self.tally = tally
        self.pending: dict[int, Pending] = {}
        self.last_arrival_ns = 0
        self._agent = agent
        self._sensor = sensor
        self._sample_topic = topics.sample(agent.run_id, device, plan.name)
        self._next_seq = 0
        self._highest_decided: dict[str, int] = {}
        self._offsets: Iterator[int] = iter(())
        self._query_size = query_size(plan.load)
        self._all_at_once = isinstance(plan.load, Offline)
        self._start_ns = 0
        self._end_ns = 0
        self._awaited = plan.load.workloads if isinstance(plan.load, After) else ()
        self._decided_before: dict[int, int] = {}
        self._moves = any(move.node == device for move in agent.process.plan.moves)

    def begin(self, start_ns: int) -> None:
        """Sense from `start_ns` on, for the duration of the run."""
        plan = self._agent.process.plan
        self._start_ns = start_ns
        self._end_ns = start_ns + int(plan.duration_s * NS_PER_S)
        if self._query_size is not None:
            self._agent.process.reactor.call_at(start_ns, partial(self._query, start_ns))
            return
        pace = self.plan.paced_by or self.plan.name
        self._offsets = open_loop(
            self.plan.load,
            seed=plan.seed,
            device=self.device,
            workload=pace,
            duration_s=plan.duration_s,
            trace_s=plan.traces.get(pace, []),
        )
        self._arm(next(self._offsets, None))

    def decided(self, decision: wire.Decision, arrived_ns: int, reply_bytes: int) -> None:
        """A decision came in."""
        pending = self.pending.pop(decision.seq, None)
        if pending is None:
            if 0 <= decision.seq < self._next_seq:
                self.tally.duplicated += 1
            else:
                self.tally.unexpected += 1
            return
        # By decider: what the edge passes on to the cloud takes longer than what it decides itself.
        if decision.seq < self._highest_decided.get(decision.decider, -1):
            self.tally.reordered += 1
        else:
            self._highest_decided[decision.decider] = decision.seq
        self.tally.decided += 1
        self.last_arrival_ns = arrived_ns
        self._agent.rows.append(
            SampleRecord(
                self.device,
                self.plan.name,
                decision.seq,
                pending.scheduled_ns,
                pending.captured_ns,
                pending.sent_ns,
                pending.size_bytes,
                pending.label,
                arrived_ns,
                decision.forward_in_ns,
                decision.forward_out_ns,
                decision.received_ns,
                decision.ready_ns,
                decision.started_ns,
                decision.finished_ns,
                decision.replied_ns,
                decision.return_in_ns,
                decision.return_out_ns,
                reply_bytes,
                decision.decider,
                decision.digest,
                decision.output,
                decision.batch,
            )
        )
        self._agent.frame_decided(self, decision.seq, arrived_ns)
        if self._query_size is not None and not self.pending:
            self._query(arrived_ns)

    def decided_before(self, seq: int, now: int) -> None:
        """One of the workloads that are awaited has decided a frame; with the last of them it is sent."""
        count = self._decided_before.pop(seq, 0) + 1
        if count < len(self._awaited):
            self._decided_before[seq] = count
        else:
            self._send(now, seq)

    def lost_rows(self) -> list[SampleRecord]:
        """Rows of the samples that never got a decision; they no longer wait."""
        rows = [
            SampleRecord(
                self.device, self.plan.name, seq, p.scheduled_ns, p.captured_ns, p.sent_ns, p.size_bytes, p.label
            )
            for seq, p in self.pending.items()
        ]
        self.pending.clear()
        return rows

    @property
    def takes_along(self) -> list[bytes]:
        """The samples that are undecided, and may be sent again from another site."""
        return [pending.envelope for pending in self.pending.values() if pending.envelope]

    def send_again(self) -> None:
        """Publish what is undecided once more, since the device is at another site now."""
        for envelope in self.takes_along:
            self._agent.connections[self.device].publish(self._sample_topic, envelope, qos=self.plan.qos)

    def give_up_query(self, now: int) -> None:
        """A closed loop whose query got no decision for too long goes on with the next; what was open is lost."""
        if self._query_size is None or not self.pending:
            return
        if now - max(p.captured_ns for p in self.pending.values()) > _CLOSED_LOOP_PATIENCE_S * NS_PER_S:
            self._agent.rows += self.lost_rows()
            self._query(now)

    def _arm(self, offset_ns: int | None) -> None:
        if offset_ns is None:
            return
        self._agent.process.reactor.call_at(self._start_ns + offset_ns, partial(self._fire, offset_ns))

    def _fire(self, offset_ns: int | None) -> None:
        if self._all_at_once and self._agent.connections[self.device].backed_up:
            # Everything is due already: what the network does not take yet stays with the sensor, or the
            # acknowledgements of decisions would queue behind it all, and the memory would hold it all.
            self._agent.process.reactor.call_later(_BACKED_UP_S, partial(self._fire, offset_ns))
            return
        now = now_ns()
        for _ in range(_AGAINST_OVERRUN):
            if offset_ns is None or self._start_ns + offset_ns > now:
                break
            self._send(self._start_ns + offset_ns)
            offset_ns = next(self._offsets, None)
        self._arm(offset_ns)

    def _query(self, due_ns: int) -> None:
        if due_ns >= self._end_ns:
            return
        for _ in range(self._query_size or 0):
            self._send(due_ns)

    def _send(self, scheduled_ns: int, seq: int | None = None) -> None:
        """seq: of the frame, where that is known; else the next."""
        seq = self._next_seq if seq is None else seq
        self._next_seq = max(self._next_seq, seq + 1)
        self.tally.scheduled += 1
        captured_ns = now_ns()
        x, label = self._sensor.capture()
        server = self._agent.servers.get(self.plan.name)
        if server is not None:
            self.pending[seq] = Pending(scheduled_ns, captured_ns, captured_ns, 0, label)
            self.tally.sent += 1
            server.submit(Request(x, captured_ns, (self, seq)))
            return
        compress = self.plan.compress
        payload = x.data.cast("B") if compress is None else memoryview(compressed(x, compress.quality))
        sent_ns = now_ns()
        sample = wire.Sample(
            wire.VERSION,
            seq,
            scheduled_ns,
            captured_ns,
            sent_ns,
            self._sensor.dtype if compress is None else JPEG,
            self._sensor.shape,
            None,  # which no sensor would know: it stays here
            payload,
        )
        envelope = wire.encode(sample)
        kept = envelope if self._moves and self.plan.qos else b""
        self.pending[seq] = Pending(scheduled_ns, captured_ns, sent_ns, len(envelope), label, kept)
        if kept and self._agent.is_moving(self.device):
            self.tally.sent += 1  # with all that is undecided, once it has come to its new site
        elif self._agent.connections[self.device].publish(self._sample_topic, envelope, qos=self.plan.qos):
            self.tally.sent += 1
        else:
            self.tally.drop("not-connected")


class DeviceAgent:
    """All devices of one process."""

    def __init__(
        self, process: NodeProcess, sensors: dict[tuple[str, str], Sensor], learning: Learning | None = None
    ) -> None:
        """sensors: (device, workload) -> its source of samples. learning: where any of the devices learns."""
        self.process = process
        self._learning = learning
        self.run_id = process.plan.run_id
        self.rows: list[SampleRecord] = []
        self.connections: dict[str, Connection] = {}
        self.servers: dict[str, ModelServer[tuple[Stream, int]]] = {}
        self._streams: dict[str, Stream] = {}
        self._qos_of: dict[str, int] = {}
        self._stays = {name: [str(node.parent)] for name, node in process.plan.nodes.items()}
        self._moving: dict[str, Moved] = {}
        self._followers: dict[tuple[str, str], list[Stream]] = {}
        self._waiting_for: set[str] = set(process.nodes)
        self._end_ns = 0
        for (device, workload), sensor in sensors.items():
            plan = process.plan.workloads[workload]
            stream = Stream(self, device, plan, sensor, process.tally(device, workload))
            self._streams[topics.decision(self.run_id, device, workload)] = stream
            if isinstance(plan.load, After):
                for before in plan.load.workloads:
                    self._followers.setdefault((device, before), []).append(stream)
            if plan.deciders[device] == device and workload not in self.servers:
                # Devices of one process are separate machines in the world, so they never share a batch.
                self.servers[workload] = ModelServer(
                    workload,
                    Batch(max_batch=1),
                    plan.queue,
                    on_served=self._served,
                    on_drop=self._dropped,
                    on_swap=partial(self._swapped, workload),
                )
                self._waiting_for.add(workload)

    def frame_decided(self, stream: Stream, seq: int, now: int) -> None:
        """A workload has decided a frame of a device: on to those that wait for it."""
        for follower in self._followers.get((stream.device, stream.plan.name), ()):
            follower.decided_before(seq, now)

    def run(self) -> None:
        """Serve until the run ends."""
        for stream in self._streams.values():
            self._qos_of[stream.device] = max(stream.plan.qos, self._qos_of.get(stream.device, 0))
        for device in self._qos_of:
            self._connect(device).start()
        self._waiting_for &= self._qos_of.keys() | self.servers.keys()
        self.process.ready = not self._waiting_for
        self.process.run(
            on_phase=self._phase_changed,
            on_abort=self._write_lost,
            before_flush=self._hand_over_rows,
            on_model=self._model_ready,
        )
        if self._learning is not None:
            self._learning.close()
        for connection in self.connections.values():
            connection.close()

    def _connect(self, device: str, edge: str | None = None) -> Connection:
        """A connection to the broker of a device's site, or to that of another; it is yet to be started."""
        plan = self.process.plan
        endpoints = plan.endpoints[device]
        url = endpoints.broker if edge is None or edge not in endpoints.elsewhere else endpoints.elsewhere[edge]
        connection = Connection(
            self.process.reactor,
            parse_broker_url(url),
            # Another session each time: what the last one at a site has missed was decided elsewhere.
            f"{self.run_id}-{device}" + (f"-{len(self._stays[device])}" if edge is not None else ""),
            on_message=self._received,
            on_up=partial(self._is_up, device),
            will=(topics.status(self.run_id, device), b"offline"),
        )
        connection.subscribe([topics.decision(self.run_id, device, topics.ANY)], self._qos_of[device])
        parent = plan.nodes[device].parent if edge is None else edge
        if device == next(iter(plan.nodes)) and self.servers and parent is not None:
            connection.subscribe([topics.site_models(self.run_id, parent, workload) for workload in self.servers], 1)
        if self._learning is not None:
            self._learning.attach(device, connection)
        self.connections[device] = connection
        return connection

    def _move(self, move: Move) -> None:
        """Leave a site for another, with all that is undecided."""
        device = move.node
        left_ns, left = now_ns(), self._stays[device][-1]
        self._stays[device].append(move.to)
        self.connections[device].abandon()
        if (unfinished := self._moving.pop(device, None)) is not None:
            self.process.write(unfinished)
        undecided = sum(len(stream.takes_along) for stream in self._of(device))
        self._moving[device] = Moved(device, left, move.to, left_ns, None, undecided)
        self._connect(device, move.to).start()

    def is_moving(self, device: str) -> bool:
        """Whether a device has left a site, and is not at the next one yet: nobody would hear its decisions."""
        return device in self._moving

    def _of(self, device: str) -> list[Stream]:
        return [stream for stream in self._streams.values() if stream.device == device]

    def _is_up(self, device: str) -> None:
        moved = self._moving.pop(device, None)
        if moved is not None:
            self.process.write(msgspec.structs.replace(moved, up_ns=now_ns()))
            for stream in self._of(device):
                stream.send_again()
        self.connections[device].publish(topics.status(self.run_id, device), b"online", qos=1, retain=True)
        if self._learning is not None:
            self._learning.reconnected(device)
        self._no_longer_waiting_for(device)

    def _no_longer_waiting_for(self, what: str) -> None:
        self._waiting_for.discard(what)
        self.process.ready = not self._waiting_for

    def _received(self, topic: str, payload: bytes) -> None:
        arrived_ns = now_ns()
        stream = self._streams.get(topic)
        if stream is None:
            if self._learning is not None and self._learning.takes(topic, payload):
                return
            workload = topic.rsplit("/", 1)[-1]
            self.process.announced(next(iter(self.process.plan.nodes)), workload, payload)
            return
        if wire.is_plain(payload):
            return  # the answer to a plain JSON sample that somebody sent in this device's name
        try:
            decision = wire.parse_decision(payload)
        except wire.RejectedError as rejected:
            stream.tally.reject(rejected.reason)
            return
        stream.decided(decision, arrived_ns, len(payload))

    def _model_ready(self, workload: str, runtime: Runtime, manifest: Manifest) -> None:
        self.servers[workload].swap(runtime, manifest)
        self.process.reactor.call_soon_threadsafe(partial(self._no_longer_waiting_for, workload))

    def _swapped(self, workload: str, manifest: Manifest) -> None:
        for device in self.process.nodes:
            if workload in self.process.tallies[device]:
                self.process.swapped(device, workload, manifest)

    def _served(self, served: Served[tuple[Stream, int]]) -> None:
        self.process.reactor.call_soon_threadsafe(partial(self._decided_here, served))

    def _decided_here(self, served: Served[tuple[Stream, int]]) -> None:
        arrived_ns = now_ns()
        for request, output in zip(served.requests, served.outputs, strict=True):
            stream, seq = request.about
            decision = wire.Decision(
                wire.VERSION,
                seq,
                stream.device,
                served.digest,
                output.tobytes(),
                len(served.requests),
                request.received_ns,
                request.received_ns,
                served.started_ns,
                served.finished_ns,
                served.finished_ns,
            )
            stream.decided(decision, arrived_ns, 0)

    def _dropped(self, request: Request[tuple[Stream, int]], reason: str) -> None:
        request.about[0].tally.drop(reason)

    def _phase_changed(self, state: RunState) -> None:
        if state.phase == "running" and state.start_ns is not None:
            self._end_ns = state.start_ns + int(self.process.plan.duration_s * NS_PER_S)
            for stream in self._streams.values():
                stream.begin(state.start_ns)
            for move in self.process.plan.moves:
                if move.node in self._qos_of:
                    self.process.reactor.call_at(state.start_ns + int(move.at_s * NS_PER_S), partial(self._move, move))
            self.process.reactor.call_at(state.start_ns, self._tick)
        elif state.phase == "ending":
            self._write_lost()
            self.process.finish()

    def _tick(self) -> None:
        now = now_ns()
        if now < self._end_ns:
            for stream in self._streams.values():
                stream.give_up_query(now)
        elif self._is_drained(now):
            self.process.drained = True
            return
        self.process.reactor.call_later(_TICK_S, self._tick)

    def _is_drained(self, now: int) -> bool:
        waiting = [stream for stream in self._streams.values() if stream.pending]
        if not waiting:
            return True
        last_sign_ns = max(stream.last_arrival_ns for stream in self._streams.values())
        return now - max(last_sign_ns, self._end_ns) > _DRAIN_QUIET_S * NS_PER_S

    def _write_lost(self) -> None:
        for moved in self._moving.values():  # it never came to be
            self.process.write(moved)
        self._moving.clear()
        for stream in self._streams.values():
            self.rows += stream.lost_rows()

    def _hand_over_rows(self) -> None:
        if self.rows:
            rows, self.rows = self.rows, []
            self.process.write(Rows(rows))
        if self._learning is not None:
            self._learning.note_usage()
