"""How an emulated device's samples come to be decided: each step takes as long as it would on its profile's machine."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Generic, TypeVar

from device_agent.head_ways import Waiting, heads_done
from device_agent.outbox import Outbox
from device_agent.sensors.sensor import Sensor
from device_agent.ways import MqttWay, OnDevice
from edgebench.core.batching import InferenceRequest, Served, ServerOwner
from edgebench.core.device import Device
from edgebench.core.emulation import EmulatedServer, Machine
from edgebench.core.pending import Pending
from edgebench.core.samples import Reading
from edgebench.core.stream import Stream, decided_on_device
from edgebench.fabric.mqtt import Connection
from edgebench.fabric.reactor import Reactor
from edgebench.fabric.real_work import RealWork, check_emulable
from edgebench.inference.runtime import Runtime
from edgebench.inference.spec import Manifest
from edgebench.topology.deployment import WorkloadPlan
from edgebench.topology.model import Batch

T = TypeVar("T")


class EmulatedMqttWay(MqttWay):
    """To the site's broker, from a device that takes its time to compress a sample, and to send it."""

    __slots__ = ("_machine", "_pictures")

    def __init__(
        self,
        run_id: str,
        device: Device,
        plan: WorkloadPlan,
        sensor: Sensor,
        connections: Mapping[str, Connection],
        *,
        moves: bool,
        machine: Machine,
        outbox: Outbox | None = None,
    ) -> None:
        """machine: that the device is emulated to run on."""
        super().__init__(run_id, device, plan, sensor, connections, moves=moves, outbox=outbox)
        self._machine = machine
        self._pictures = None
        if plan.compress is not None:
            self._pictures = machine.profile.picture_cost(plan.task, plan.compress.quality)

    @property
    def backed_up(self) -> bool:
        """Whether messages wait for the machine to send them, or for the connection."""
        return self._machine.is_behind or super().backed_up

    def send(self, stream: Stream, seq: int, scheduled_ns: int, captured_ns: int, reading: Reading) -> Pending:
        """See `MqttWay`. What the connection then refuses to take is dropped later than this returns."""
        machine = self._machine
        payload = self._packed(reading.x)
        took_ns = 0 if self._pictures is None else machine.draws_ns(self._pictures.compress)
        sent_ns = captured_ns + took_ns
        envelope = self._enveloped(stream, seq, scheduled_ns, captured_ns, sent_ns, payload)
        kept = envelope if self._keeps else b""
        pending = Pending(scheduled_ns, captured_ns, sent_ns, len(envelope), reading.label, reading.taken_ns, kept)
        if self._outbox is None:
            leave = partial(self._leave, stream, seq, envelope, captured_ns)
            if self._keeps:
                self._staying.add((stream.incarnation, seq))  # else it would be sent twice where the device moves now
        else:
            key = stream.incarnation, seq
            both = _Both(partial(self._set_out, key, envelope))
            pending = self._keep(stream, key, pending, both.done)
            leave = partial(self._leave_kept, both, captured_ns)
        if not pending.refused:
            machine.sends(captured_ns, len(envelope), self._qos, leave, after_ns=took_ns)
        return pending

    def _go_again(self, key: tuple[int, int], envelope: bytes) -> None:
        self._staying.add(key)  # so that it is not asked for twice meanwhile
        now_ns, go = self._machine.time.now_ns(), super()._go_again

        def leave(due_ns: int) -> None:
            self._machine.released(now_ns, due_ns)
            self._staying.discard(key)
            go(key, envelope)

        self._machine.sends(now_ns, len(envelope), self._qos, leave)

    def _leave(self, stream: Stream, seq: int, envelope: bytes, since_ns: int, due_ns: int) -> None:
        self._machine.released(since_ns, due_ns)
        self._staying.discard((stream.incarnation, seq))
        if not (self._keeps and self._device.moving) and not self._publish(envelope):
            stream.dropped(seq, "not-connected")

    def _leave_kept(self, both: _Both, since_ns: int, due_ns: int) -> None:
        self._machine.released(since_ns, due_ns)
        both.done()


class _Both:
    """Calls when two things are done: a sample is kept, and its device has taken its time to send it."""

    __slots__ = ("_call", "_left")

    def __init__(self, call: Callable[[], None]) -> None:
        self._call = call
        self._left = 2

    def done(self) -> None:
        self._left -= 1
        if not self._left:
            self._call()


class _Models(Generic[T]):
    """A model on each device, which is a machine of its own; the real work of all is done in one thread."""

    _owner: Callable[[Machine, Callable[[Manifest], None]], ServerOwner[T]]
    """Who is told of what one of them has done, and which model does it."""

    def __init__(
        self,
        plan: WorkloadPlan,
        reactor: Reactor,
        swapped: Callable[[Manifest], None],
        machines: Mapping[str, Machine],
    ) -> None:
        """machines: of the devices that have it."""
        self._reactor = reactor
        self._swapped = swapped
        self._machines = machines
        self._work = RealWork(plan.name, reactor)
        self._servers: dict[str, EmulatedServer[T]] = {
            device: machine.server(Batch(max_batch=1), plan.queue, type(self)._owner(machine, self._told_of))
            for device, machine in machines.items()
        }
        self._told: str | None = None

    def use(self, runtime: Runtime, manifest: Manifest) -> None:
        """Decide with this (warm) model from the next sample on. Raises ModelError where it cannot be emulated here."""
        check_emulable(next(iter(self._machines.values())), runtime, manifest, 1)
        model = self._work.model(runtime, manifest, holders=len(self._servers))

        def swap() -> None:
            for server in self._servers.values():
                server.swap(model, manifest)

        self._reactor.call_soon_threadsafe(swap)

    def _told_of(self, manifest: Manifest) -> None:
        """The first of the devices has a model from now on; the others have it with their next samples."""
        if self._told != manifest.digest:
            self._told = manifest.digest
            self._swapped(manifest)


class _Owner(Generic[T]):
    """Who is told of what one device has done."""

    __slots__ = ("_machine", "swapped")

    def __init__(self, machine: Machine, swapped: Callable[[Manifest], None]) -> None:
        """swapped: which model does it from now on."""
        self._machine = machine
        self.swapped = swapped

    def _tell_dropped(self, since_ns: int, stream: Stream, seq: int, reason: str) -> None:
        """Tell the stream, once it knows of the sample."""
        self._machine.time.call_at(since_ns, partial(stream.dropped, seq, reason))


class _Deciding(_Owner[OnDevice]):
    """Of a device that decides itself."""

    __slots__ = ()

    def served(self, served: Served[OnDevice]) -> None:
        """Bring the decision to its stream."""
        self._machine.released(served.requests[0].received_ns, served.finished_ns)
        decided_on_device(served, self._machine.time.now_ns())

    def dropped(self, request: InferenceRequest[OnDevice], reason: str) -> None:
        """Tell the stream."""
        self._tell_dropped(request.received_ns, *request.about, reason)


class _Beginning(_Owner[Waiting]):
    """Of a device that has the first stage of a chain."""

    __slots__ = ()

    def served(self, served: Served[Waiting]) -> None:
        """Have what it gives set out."""
        self._machine.released(served.requests[0].received_ns, served.finished_ns)
        heads_done(served)

    def dropped(self, request: InferenceRequest[Waiting], reason: str) -> None:
        """Tell the stream."""
        self._tell_dropped(request.received_ns, request.about.stream, request.about.seq, reason)


class EmulatedOnBoard(_Models[OnDevice]):
    """To the model of each device."""

    backed_up = False
    _owner = _Deciding

    def send(self, stream: Stream, seq: int, scheduled_ns: int, captured_ns: int, reading: Reading) -> Pending:
        """Submit a sample."""
        self._servers[stream.device].submit_at(captured_ns, InferenceRequest(reading.x, captured_ns, (stream, seq)))
        return Pending(scheduled_ns, captured_ns, captured_ns, 0, reading.label, reading.taken_ns)

    def send_again(self, incarnation: int, seq: int, envelope: bytes, *, moved: bool) -> None:
        """Do nothing: what never travels is never sent again."""


class EmulatedHeads(_Models[Waiting]):
    """The first stage of a chain on each device; see `FirstStage`."""

    _owner = _Beginning

    def submit(self, captured_ns: int, waiting: Waiting) -> None:
        """See `FirstStage`."""
        server = self._servers[waiting.stream.device]
        server.submit_at(captured_ns, InferenceRequest(waiting.reading.x, captured_ns, waiting))

    def is_behind(self, device: str) -> bool:
        """See `FirstStage`."""
        return not self._servers[device].idle
