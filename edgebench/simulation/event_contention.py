"""Nodes with fewer cores than threads, in virtual time: each of their jobs waits for a core, by the very law by which a
run emulates such a node (`core.emulation`). What it takes there is no part of what ways to and from it take."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from typing import Any, NamedTuple

import msgspec

from cloud.export import BATCHES
from edgebench.core.batching import InferenceRequest, Served
from edgebench.core.deciding import HeadOutput, Origin, QueuedSample, brought_back
from edgebench.core.emulation import EmulatedDecider, EmulatedForwarder, EmulatedServer, Machine, key_of
from edgebench.core.fake_transport import FIRST, AtOnce
from edgebench.core.intake import Intake
from edgebench.core.pending import Pending
from edgebench.core.samples import Decision, HeadStamps, Reading, SampleKey
from edgebench.core.service_times import lacking, splits_by
from edgebench.core.station import Thread
from edgebench.core.stream import Stream, Way, decided_on_device
from edgebench.inference.spec import Manifest, Part
from edgebench.simulation import columns
from edgebench.simulation.columns import AT_CLOUD, ON_DEVICE
from edgebench.simulation.costs import Flow
from edgebench.simulation.event_costs import Costs
from edgebench.simulation.event_devices import MANIFEST, SURE, Device, Echo, Message, Site, SiteWay, World
from edgebench.simulation.event_nodes import (
    THRESHOLD,
    AnsweringAlone,
    FarDecider,
    From,
    HandingOn,
    Reader,
    message_of,
    origin_of,
)
from edgebench.simulation.fleet import Group
from edgebench.simulation.layout import UnmeasuredBatch
from edgebench.simulation.wire_sizes import answer_bytes, forward_bytes
from edgebench.topology.deployment import WorkloadPlan
from edgebench.topology.model import Batch


class _Machine(Machine):
    """What such a node runs on; see `Machine`."""

    def times_of(self, manifest: Manifest) -> Any:
        """See `Machine`. Of a batch of which the profile does not tell, asking raises UnmeasuredBatch."""
        times, known = super().times_of(manifest), self.profile.model_times(key_of(manifest))
        sizes = splits_by(manifest.runtime, manifest.batches)
        lacks_of = cache(partial(lacking, known, sizes))

        def service_ns(n: int) -> int:
            if lacks := lacks_of(n):
                of = f"{manifest.task} ({manifest.model_size}, {manifest.runtime}, {manifest.quantisation})"
                raise UnmeasuredBatch(
                    f"a batch of {n} of {of} came about at {self.node}, whose threads wait for a core, and "
                    f"'{self.profile.name}' tells nothing of {lacks[0]} (measure it, or lower batch.max_batch)"
                )
            return times.service_ns(n)

        return _Times(service_ns)


class _Times(NamedTuple):
    """See `core.emulation.ServiceTimes`."""

    service_ns: Callable[[int], int]


class _Payload:
    """A message as bytes, of which only the number is known."""

    __slots__ = ("_size_bytes", "device", "message", "seq")

    def __init__(self, message: Message, size_bytes: int) -> None:
        self.message = message
        self.device = message.device
        self.seq = message.seq
        self._size_bytes = size_bytes

    def __len__(self) -> int:
        return self._size_bytes


class _Decider(HandingOn, EmulatedDecider):
    """See there."""


class _Deciding(AnsweringAlone):
    """A workload that is decided at such a node."""

    def __init__(self, node: ContendedEdge | ContendedCloud, world: World, flow: Flow, plan: WorkloadPlan) -> None:
        cascades = node.at_edge and plan.cascade is not None
        self._node = node
        self._machine = node.machine
        self._decider = _Decider(
            node.machine,
            world.tally(node.machine.node, flow.name),
            self,
            plan.qos,
            # What comes to the second stage of a chain is no picture.
            decompress=None if plan.is_chain and not node.at_edge else node.machine.decompresses(plan),
            upstream=self if cascades else None,
            next_stage=self if node.at_edge and plan.is_chain else None,
            sparse=world.is_sparse(plan) or not cascades,
        )
        server: EmulatedServer[QueuedSample] = node.machine.server(plan.batch, plan.queue, self._decider)
        self._thread = server.thread
        self._decider.served_by(server)
        manifest = _manifest(world, flow, node.of, threshold=THRESHOLD if cascades else None)
        self._decider.expect(manifest, Reader(world, flow.number, cascades=cascades))
        server.swap(AtOnce(Echo()), manifest)

    def take(self, origin: Origin, payload: Any) -> None:
        """A message is here."""
        self._decider.take(origin, payload)

    def answer(self, origin: Origin, decision: Decision) -> None:
        """See `Answers.answer`."""
        self._node.send_answer(message_of(origin), decision, self._thread)

    def pass_on(self, device: str, received_ns: int, payload: Any, key: SampleKey | None) -> None:
        """See `Upstream.pass_on`: what a cascade is unsure of."""
        assert isinstance(self._node, ContendedEdge)
        self._node.send_on(self._machine.time.now_ns(), payload.message, received_ns)

    def hand_on(self, output: HeadOutput) -> None:
        """See `NextStage.hand_on`: the thread of the model sends it."""
        assert isinstance(self._node, ContendedEdge)
        message, at_ns = next(self._decider.handing_on), output.stamps.finished_ns
        self._node.send_on(at_ns, message, output.received_ns, output.stamps, self._thread)


class _Passing:
    """Has an edge send on what it takes in."""

    def __init__(self, edge: ContendedEdge) -> None:
        self._edge = edge

    def pass_on(self, device: str, received_ns: int, payload: Any, key: SampleKey | None) -> None:
        """See `Upstream.pass_on`."""
        self._edge.send_on(received_ns, payload.message, received_ns)


class ContendedEdge:
    """An edge: see `event_nodes.Edge`."""

    at_edge = True

    def __init__(self, world: World, group: Group, index: int, cloud: FarDecider) -> None:
        self.machine = _machine(world, group, index)
        self.of = group
        self._world = world
        self._cloud = cloud
        self._up, self._down = world.links(group, index, world.layout.fleet.site(group, index))
        self._deciding: dict[int, _Deciding] = {}
        self._forwarders: dict[int, EmulatedForwarder] = {}
        self._qos = _qos(world)
        self._tallies = {flow.number: world.tally(self.machine.node, flow.name) for flow in world.layout.flows}

    @property
    def name(self) -> str:
        """See `Site`."""
        return self.machine.node

    @property
    def group(self) -> int:
        """See `Site`."""
        return self.of.number

    def serve(self, flow: Flow, plan: WorkloadPlan, where: int) -> None:
        """Decide a workload's samples, or pass them on."""
        if where != AT_CLOUD and flow.number not in self._deciding:
            self._deciding[flow.number] = _Deciding(self, self._world, flow, plan)
        if where == AT_CLOUD and flow.number not in self._forwarders:
            intake = Intake(self._tallies[flow.number], sparse=self._world.is_sparse(plan))
            intake.expect(Reader(self._world, flow.number, cascades=False))
            self._forwarders[flow.number] = EmulatedForwarder(self.machine, intake, _Passing(self), plan.qos)

    def arrived(self, message: Message) -> None:
        """A sample of a device is here."""
        payload: Any = _Payload(message, message.costs[columns.SIZE_DRAW])
        passes_on = message.device.where[message.flow] == AT_CLOUD
        taker = self._forwarders[message.flow] if passes_on else self._deciding[message.flow]
        taker.take(origin_of(message), payload)

    def send_on(
        self,
        at_ns: int,
        message: Message,
        received_ns: int,
        head: HeadStamps | None = None,
        thread: Thread | None = None,
    ) -> None:
        """Send a sample to the cloud from a time on, or what the first stage of a chain, whose thread that is, gives
        for it."""
        sample_bytes = message.costs[columns.SIZE_DRAW] if head is None else self._world.output_bytes[message.flow]
        origin = origin_of(message, received_ns, at_ns, self.machine.node, head)
        leave = partial(self._leave, origin, sample_bytes)
        size_bytes = sample_bytes + forward_bytes(message.device.name)
        self.machine.sends(at_ns, size_bytes, self._qos[message.flow], leave, thread=thread)

    def _leave(self, origin: From, sample_bytes: int, due_ns: int) -> None:
        message = origin.message
        self._tallies[message.flow].forwarded += 1
        if message.site is message.device.site:  # else it sets out from another edge as well
            self._world.left_ns[message.rank] = due_ns
        size_bytes = sample_bytes + self._world.forward_bytes[message.flow]
        arrive = partial(self._cloud.arrived, origin)
        self._up.carry(due_ns, size_bytes, message.costs[columns.BACKHAUL_UP], message.rank, arrive)

    def send_answer(self, message: Message, decision: Decision, thread: Thread) -> None:
        """A decision of its own is there, which the thread of the model sends."""
        self._reply(message, decision, message.costs[columns.REPLY_DRAW], decision.stamps.finished_ns, thread)

    def bring_back(self, message: Message, decision: Decision) -> None:
        """A decision sets out from the cloud."""
        size_bytes = message.costs[columns.CLOUD_REPLY] + self._world.answer_bytes[message.flow]
        hear = partial(self._hear, message, decision)
        then_ns = message.costs[columns.BACKHAUL_DOWN]
        self._down.carry(self.machine.time.now_ns(), size_bytes, then_ns, FIRST, hear)

    def _hear(self, message: Message, decision: Decision) -> None:
        reply_bytes = message.costs[columns.CLOUD_REPLY]

        def heard(at_ns: int) -> None:
            self._reply(message, brought_back(decision, at_ns, at_ns), reply_bytes, at_ns)

        self.machine.hears(reply_bytes + answer_bytes(message.device.name), self._qos[message.flow], heard)

    def _reply(
        self, message: Message, decision: Decision, reply_bytes: int, at_ns: int, thread: Thread | None = None
    ) -> None:
        def leave(_due_ns: int) -> None:
            message.device.send_down(message, decision, reply_bytes)

        qos = self._qos[message.flow]
        self.machine.sends(at_ns, reply_bytes, qos, leave, thread=thread, to_own_broker=True)


class ContendedCloud:
    """The cloud: see `event_nodes.Cloud`."""

    at_edge = False

    def __init__(self, world: World, group: Group) -> None:
        self.machine = _machine(world, group, 0)
        self.of = group
        self._world = world
        self._deciding: dict[int, _Deciding] = {}
        self._qos = _qos(world)

    def serve(self, flow: Flow, plan: WorkloadPlan, _where: int) -> None:
        """Decide a workload's samples."""
        if flow.number not in self._deciding:
            self._deciding[flow.number] = _Deciding(self, self._world, flow, plan)

    def arrived(self, origin: From) -> None:
        """See `FarDecider`."""
        message = origin.message
        at_first = origin.head is None
        sample_bytes = message.costs[columns.SIZE_DRAW] if at_first else self._world.output_bytes[message.flow]
        payload: Any = _Payload(message, sample_bytes + forward_bytes(message.device.name))
        self._deciding[message.flow].take(origin, payload)

    def send_answer(self, message: Message, decision: Decision, thread: Thread) -> None:
        """A decision is there, which the thread of the model sends to the device's edge."""

        def leave(_due_ns: int) -> None:
            message.site.bring_back(message, decision)

        size_bytes = message.costs[columns.CLOUD_REPLY] + answer_bytes(message.device.name)
        at_ns, qos = decision.stamps.finished_ns, self._qos[message.flow]
        self.machine.sends(at_ns, size_bytes, qos, leave, thread=thread, to_own_broker=True)


class ContendedDevice(Device):
    """A device: see `Device`."""

    def __init__(self, world: World, group: Group, index: int, site: Site) -> None:
        super().__init__(world, group, index, site)
        self.machine = _machine(world, group, index)

    def _way(self, flow: Flow, plan: WorkloadPlan, where: int, costs: Callable[[int], Costs]) -> Way:
        if where == ON_DEVICE:
            return _OwnWay(self, plan, _manifest(self._world, flow, self._of))
        return _SiteWay(self, flow, plan, costs)

    def _hear(self, stream: Stream, decision: Decision, reply_bytes: int) -> None:
        def heard(at_ns: int) -> None:
            stream.decided(decision, at_ns, reply_bytes)

        self.machine.hears(reply_bytes, stream.plan.qos, heard)


class _SiteWay(SiteWay):
    """To the site, over the device's link."""

    def __init__(self, device: ContendedDevice, flow: Flow, plan: WorkloadPlan, costs: Callable[[int], Costs]) -> None:
        super().__init__(device, flow, plan, costs)
        self._machine = device.machine
        self._qos = plan.qos

    @property
    def backed_up(self) -> bool:
        """Whether the device, or its link, has enough to do."""
        return self._machine.is_behind or self._device.connection.up.backed_up

    def send(self, _stream: Stream, seq: int, scheduled_ns: int, captured_ns: int, _reading: Reading) -> Pending:
        """See `Way.send`."""
        device, costs = self._device, self._costs(seq)
        message, took_ns = Message(device, self._flow, seq, costs), costs[columns.CAPTURE]
        leave = self._stays(message) if device.moves else partial(device.send_up, message)
        size_bytes = costs[columns.SIZE_DRAW]
        self._machine.sends(captured_ns, size_bytes, self._qos, leave, after_ns=took_ns)
        return Pending(scheduled_ns, captured_ns, captured_ns + took_ns, size_bytes, None, envelope=self._envelope)

    def _go_again(self, message: Message) -> None:
        size_bytes = message.costs[columns.SIZE_DRAW]
        self._machine.sends(self._machine.time.now_ns(), size_bytes, self._qos, self._stays(message))


class _OwnWay:
    """To the device's own model."""

    backed_up = False

    def __init__(self, device: ContendedDevice, plan: WorkloadPlan, manifest: Manifest) -> None:
        self._time = device.machine.time
        self._server: EmulatedServer[tuple[Stream, int]] = device.machine.server(Batch(max_batch=1), plan.queue, self)
        self._server.swap(AtOnce(Echo()), manifest)

    def send(self, stream: Stream, seq: int, scheduled_ns: int, captured_ns: int, _reading: Reading) -> Pending:
        """See `Way.send`."""
        self._server.submit_at(captured_ns, InferenceRequest(SURE, captured_ns, (stream, seq)))
        return Pending(scheduled_ns, captured_ns, captured_ns, 0, None)

    def send_again(self, incarnation: int, seq: int, envelope: bytes, *, moved: bool) -> None:
        """Do nothing: what never travels is never sent again."""

    def served(self, served: Served[tuple[Stream, int]]) -> None:
        """Bring a decision to its stream."""
        decided_on_device(served, self._time.now_ns())

    def dropped(self, request: InferenceRequest[tuple[Stream, int]], reason: str) -> None:
        """Tell the stream, once it knows of the sample."""
        stream, seq = request.about
        self._time.call_at(request.received_ns, partial(stream.dropped, seq, reason))

    def swapped(self, manifest: Manifest) -> None:
        """Nothing is written down of it."""


def _manifest(world: World, flow: Flow, group: Group, *, threshold: float | None = None) -> Manifest:
    """What a node of a group decides a workload with."""
    model, share = flow.model_at(group), world.layout.contended[group.name].shares.get(flow.number)
    return msgspec.structs.replace(
        MANIFEST,
        task=model.task,
        model_size=model.size,
        runtime=model.runtime,
        quantisation=model.quantisation,
        batches=BATCHES,
        threshold=threshold,
        part=None if share is None else Part("head" if group.tier == "edge" else "tail", "", share),
    )


def _machine(world: World, group: Group, index: int) -> _Machine:
    """What a node of a group runs on."""
    profile, seed = world.layout.contended[group.name].profile, world.layout.topology.seed
    return _Machine(group.node(index), profile, world.time, seed, has_broker=group.tier != "device")


def _qos(world: World) -> dict[int, int]:
    return {flow.number: flow.plan.qos for flow in world.layout.flows}
