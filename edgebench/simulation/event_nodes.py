"""Edges and the cloud in virtual time: the deciders of `edgebench.core`, with what each step costs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, Protocol

import msgspec

from edgebench.core.batching import InferenceRequest, Served
from edgebench.core.deciding import Decider, Forwarder, HeadOutput, Origin, QueuedSample, brought_back
from edgebench.core.fake_transport import FIRST
from edgebench.core.intake import Accepted, Intake
from edgebench.core.samples import Decision, HeadStamps, SampleKey
from edgebench.inference.spec import Manifest
from edgebench.simulation import columns
from edgebench.simulation.columns import AT_CLOUD, CASCADE, CHAIN
from edgebench.simulation.costs import Flow
from edgebench.simulation.event_devices import MANIFEST, SURE, UNSURE, Echo, Message, World
from edgebench.simulation.event_server import VirtualServer
from edgebench.simulation.fleet import Group
from edgebench.topology.deployment import WorkloadPlan

THRESHOLD = 0.75
"""Between what `Echo` says of a sample that a cascade is sure of, and of others."""

PassOn = Callable[[int, Message, int, HeadStamps | None], None]
"""Has a sample set out to the cloud: when, which, when it came, and what the first stage of a chain did meanwhile."""


class From(Origin):
    """Where a sample comes from, and which it is."""

    message: Message


class FarDecider(Protocol):
    """Who decides what edges pass on."""

    def arrived(self, origin: From) -> None:
        """A sample that an edge passed on is here."""
        ...


def origin_of(
    message: Message,
    in_ns: int | None = None,
    out_ns: int | None = None,
    edge: str | None = None,
    head: HeadStamps | None = None,
) -> From:
    """Of a message; else as `Origin` has it."""
    found = From(message.device.name, in_ns, out_ns, edge, head)
    found.message = message
    return found


class Reader:
    """Reads a payload, which is a message, or stands for one."""

    def __init__(self, world: World, flow: int, *, cascades: bool) -> None:
        """cascades: whether what it reads may be passed on."""
        self._costs = world.costs
        self._flow = flow
        self._cascades = cascades

    def read(self, payload: Any) -> Accepted:
        """See `Reader.read`."""
        seq = payload.seq
        unsure = self._cascades and self._costs.is_unsure(self._flow, payload.device.number, seq)
        return Accepted(UNSURE if unsure else SURE, seq)


class HandingOn(Decider):
    """A decider which tells whose outputs it hands on: the messages of a batch, in their order."""

    handing_on: Iterator[Message]

    def served(self, served: Served[QueuedSample]) -> None:
        """See `ServerOwner.served`."""
        self.handing_on = (message_of(request.about.origin) for request in served.requests)
        super().served(served)


class AnsweringAlone:
    """Who answers samples of devices alone, and each at its own time; see `Answers`."""

    def answer_plain(self, origin: Origin, output: list[float], digest: str, sample_id: str | int | None) -> None:
        """Nobody sends plain JSON here."""
        raise AssertionError(f"{origin.device} sent plain JSON")

    def flush(self) -> None:
        """Each has its own time."""

    def swapped(self, manifest: Manifest) -> None:
        """Nothing is written down of it."""


class _Decider(HandingOn):
    """A decider whose node is told when a sample came, and is asked when it is ready."""

    def take_ready(self, origin: From, received_ns: int, ready_ns: int) -> None:
        """Queue a sample that came then, and is ready now."""
        payload: Any = origin.message
        accepted = self.intake.take(origin.device, payload, by=origin.edge)
        if accepted is None:
            return  # a device that has come back has sent it again
        assert self._server is not None
        kept = b"" if self._upstream is None else payload
        queued = QueuedSample(origin, ready_ns, kept, accepted.seq, accepted.id, accepted.incarnation)
        self._server.submit(InferenceRequest(accepted.x, received_ns, queued))


class _Served(AnsweringAlone):
    """A workload at an edge or the cloud: its decider and server, which answers one after another. It is the clock by
    which decisions are answered."""

    def __init__(
        self,
        node: Edge | Cloud,
        world: World,
        flow: Flow,
        plan: WorkloadPlan,
        purposes: tuple[int, int, int],
        passes_on: PassOn | None = None,
        *,
        cascades: bool = False,
    ) -> None:
        """purposes: of waking up, inference and answers. passes_on: of a cascade, what it is unsure of; else, of the
        first stage of a chain, what it gives."""
        self._node = node
        self._world = world
        self._time_ns = world.time.now_ns
        self._flow = flow.number
        self._wake, self._infer, self._answer = purposes
        self._passes_on = passes_on
        self._free_ns = 0
        tally = world.tally(node.name, flow.name)
        self.decider = _Decider(
            node.name,
            tally,
            self,
            self,
            upstream=self if cascades else None,
            next_stage=None if cascades or passes_on is None else self,
            sparse=world.is_sparse(plan) or not cascades,
        )
        self._server: VirtualServer[QueuedSample] = VirtualServer(
            world.time,
            plan.batch,
            plan.queue,
            self.decider,
            self._service_ns,
            wake_ns=self._wake_ns,
            free_ns=lambda: self._free_ns,
        )
        self.decider.served_by(self._server)
        manifest = msgspec.structs.replace(MANIFEST, threshold=THRESHOLD) if cascades else MANIFEST
        self.decider.expect(manifest, Reader(world, flow.number, cascades=cascades))
        self._server.swap(Echo(), manifest)

    def now_ns(self) -> int:
        """When it is the turn of the next answer: those before it have been given."""
        return max(self._free_ns, self._time_ns())

    def answer(self, origin: Origin, decision: Decision) -> None:
        """See `Answers.answer`."""
        message = message_of(origin)
        at_ns = decision.stamps.replied_ns
        self._free_ns = at_ns + message.costs[self._answer]
        self._world.time.call_at(at_ns, partial(self._node.send_answer, message, decision), message.rank)

    def pass_on(self, device: str, received_ns: int, payload: Any, key: SampleKey | None) -> None:
        """See `Upstream.pass_on`: what a cascade is unsure of, in the turn of its answers."""
        self._send_on(payload, received_ns, None)

    def hand_on(self, output: HeadOutput) -> None:
        """See `NextStage.hand_on`: one after another."""
        self._send_on(next(self.decider.handing_on), output.received_ns, output.stamps)

    def _send_on(self, message: Message, received_ns: int, head: HeadStamps | None) -> None:
        at_ns = self.now_ns()
        self._free_ns = at_ns + message.costs[columns.PASS_ON]
        assert self._passes_on is not None
        self._passes_on(at_ns, message, received_ns, head)

    def _wake_ns(self, request: InferenceRequest[QueuedSample]) -> int:
        return message_of(request.about.origin).costs[self._wake]

    def _service_ns(self, requests: Sequence[InferenceRequest[QueuedSample]], at_once: bool) -> int:
        first = message_of(requests[0].about.origin)
        key = self._infer, self._flow, self._node.group, first.device.number, first.seq, len(requests)
        return self._world.costs.service_ns(*key, at_once=at_once)


def message_of(origin: Origin) -> Message:
    """Which sample it is that comes from there."""
    assert isinstance(origin, From)
    return origin.message


class Edge:
    """An edge: it takes in one after another what comes from its devices, and what comes back from the cloud."""

    def __init__(self, world: World, group: Group, index: int, cloud: FarDecider) -> None:
        self.name = group.node(index)
        self.group = group.number
        self._world = world
        self._cloud = cloud
        self._up, self._down = world.links(group, index, world.layout.fleet.site(group, index))
        self._now_ns, self._call_at = world.time.now_ns, world.time.call_at
        self._free_ns = 0
        self._return_free_ns = 0
        self._deciders: dict[int, _Served] = {}
        self._forwarders: dict[int, Forwarder] = {}
        self._tallies = {flow.number: world.tally(group.node(index), flow.name) for flow in world.layout.flows}

    def serve(self, flow: Flow, plan: WorkloadPlan, where: int) -> None:
        """Decide a workload's samples, or pass them on."""
        if where == AT_CLOUD and flow.number not in self._forwarders:
            upstream = _Passing(self._world, self)
            intake = Intake(self._world.tally(self.name, flow.name), sparse=self._world.is_sparse(plan))
            forwarder = Forwarder(intake, upstream, self._world.time)
            forwarder.intake.expect(Reader(self._world, flow.number, cascades=False))
            self._forwarders[flow.number] = forwarder
        if where != AT_CLOUD and flow.number not in self._deciders:
            purposes = (columns.WAKE, columns.INFER, columns.ANSWER)
            passes_on = self.pass_on_at if where in (CASCADE, CHAIN) else None
            self._deciders[flow.number] = _Served(
                self, self._world, flow, plan, purposes, passes_on, cascades=where == CASCADE
            )

    def arrived(self, message: Message) -> None:
        """A sample of a device is here."""
        start_ns, costs, flow = max(self._free_ns, self._now_ns()), message.costs, message.flow
        origin = origin_of(message)
        if message.device.where[flow] == AT_CLOUD:
            self._free_ns = start_ns + max(costs[columns.PASS_ON], costs[columns.RELAY])
            payload: Any = message
            self._call_at(start_ns, partial(self._forwarders[flow].take, origin, payload), message.rank)
        else:
            ready_ns = start_ns + costs[columns.DECODE]
            self._free_ns = max(ready_ns, start_ns + costs[columns.INTAKE])
            # What was taken in first is ready first.
            self._call_at(ready_ns, partial(self._deciders[flow].decider.take_ready, origin, start_ns, ready_ns))

    def pass_on_at(self, at_ns: int, message: Message, received_ns: int, head: HeadStamps | None = None) -> None:
        """A sample sets out to the cloud at a time, or what the first stage of a chain gives for it."""
        self._call_at(at_ns, partial(self._send_far, message, received_ns, head), message.rank)

    def _send_far(self, message: Message, received_ns: int, head: HeadStamps | None) -> None:
        self._tallies[message.flow].forwarded += 1
        now_ns, costs, world = self._now_ns(), message.costs, self._world
        payload = costs[columns.SIZE_DRAW] if head is None else world.output_bytes[message.flow]
        size = payload + world.forward_bytes[message.flow]
        arrive = partial(self._cloud.arrived, origin_of(message, received_ns, now_ns, self.name, head))
        self._up.carry(now_ns, size, costs[columns.BACKHAUL_UP], message.rank, arrive)

    def send_answer(self, message: Message, decision: Decision) -> None:
        """A decision of its own sets out."""
        message.device.send_down(message, decision, message.costs[columns.REPLY_DRAW])

    def bring_back(self, message: Message, decision: Decision) -> None:
        """A decision sets out from the cloud."""
        costs = message.costs
        size = costs[columns.CLOUD_REPLY] + self._world.answer_bytes[message.flow]
        hand_back = partial(self._hand_back, message, decision)
        self._down.carry(self._now_ns(), size, costs[columns.BACKHAUL_DOWN], FIRST, hand_back)

    def _hand_back(self, message: Message, decision: Decision) -> None:
        """A decision of the cloud's is here: it sets out to its device once those before it have."""
        start_ns, costs = max(self._return_free_ns, self._now_ns()), message.costs
        out_ns = self._return_free_ns = start_ns + costs[columns.HAND_BACK]
        decision = brought_back(decision, start_ns, out_ns)
        send = partial(message.device.send_down, message, decision, costs[columns.CLOUD_REPLY])
        self._call_at(out_ns, send, message.rank)


class _Passing:
    """What an edge passes on as it comes."""

    def __init__(self, world: World, edge: Edge) -> None:
        self._world = world
        self._edge = edge

    def pass_on(self, device: str, received_ns: int, payload: Any, key: SampleKey | None) -> None:
        """See `Upstream.pass_on`."""
        at_ns = self._world.time.now_ns() + payload.costs[columns.PASS_ON]
        self._edge.pass_on_at(at_ns, payload, received_ns)


class Cloud:
    """The cloud: it takes in one after another what edges pass on."""

    def __init__(self, world: World) -> None:
        cloud = world.layout.fleet.cloud
        self.name = cloud.name
        self.group = cloud.number
        self._world = world
        self._now_ns, self._call_at = world.time.now_ns, world.time.call_at
        self._free_ns = 0
        self._deciders: dict[int, _Served] = {}

    def serve(self, flow: Flow, plan: WorkloadPlan, _where: int) -> None:
        """Decide a workload's samples."""
        if flow.number not in self._deciders:
            purposes = (columns.CLOUD_WAKE, columns.CLOUD_INFER, columns.CLOUD_ANSWER)
            self._deciders[flow.number] = _Served(self, self._world, flow, plan, purposes)

    def arrived(self, origin: From) -> None:
        """A sample that an edge passed on is here."""
        message = origin.message
        start_ns, costs = max(self._free_ns, self._now_ns()), message.costs
        ready_ns = start_ns + costs[columns.CLOUD_DECODE]
        self._free_ns = max(ready_ns, start_ns + costs[columns.CLOUD_INTAKE])
        take = self._deciders[message.flow].decider.take_ready
        self._call_at(ready_ns, partial(take, origin, start_ns, ready_ns))

    def send_answer(self, message: Message, decision: Decision) -> None:
        """A decision sets out to the device's edge."""
        message.site.bring_back(message, decision)
