"""The device agent: senses on schedule, publishes, receives decisions, and writes down every sample.

One process hosts one device or a thousand; each has its own MQTT connection, all share one thread.
"""

from __future__ import annotations

from functools import partial

import msgspec

from device_agent.learning import Learning
from device_agent.sensor import Sensor
from device_agent.stream import Stream
from edgebench.clock import NS_PER_S, now_ns
from edgebench.core.samples import Decision, SampleRecord, Stamps
from edgebench.fabric import topics, wire
from edgebench.fabric.endpoints import parse_broker_url
from edgebench.fabric.mqtt import Connection
from edgebench.fabric.node_process import NodeProcess
from edgebench.fabric.records import Moved, SampleRows
from edgebench.fabric.slices import RunState
from edgebench.inference.runtime import Runtime
from edgebench.inference.serving import InferenceRequest, ModelServer, Served
from edgebench.inference.spec import Manifest
from edgebench.topology.model import After, Batch, Move

_DRAIN_QUIET_S = 5.0
_TICK_S = 0.25


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
            stamps = Stamps(
                request.received_ns, request.received_ns, served.started_ns, served.finished_ns, served.finished_ns
            )
            decision = Decision(
                wire.VERSION, seq, stream.device, served.digest, output.tobytes(), len(served.requests), stamps
            )
            stream.decided(decision, arrived_ns, 0)

    def _dropped(self, request: InferenceRequest[tuple[Stream, int]], reason: str) -> None:
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
            self.process.write(SampleRows(rows))
        if self._learning is not None:
            self._learning.note_usage()
