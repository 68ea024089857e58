"""Devices in virtual time: the streams and links of `edgebench.core`, with what each step costs."""

from __future__ import annotations

import itertools
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from copy import copy
from functools import partial
from typing import Any, Protocol

import msgspec
import numpy as np
from numpy.typing import NDArray

from edgebench.clock import NS_PER_MS
from edgebench.core.batching import InferenceRequest, Served
from edgebench.core.device import Device as Mover
from edgebench.core.device import Moved
from edgebench.core.fake_transport import FIRST, Rank, VirtualTime
from edgebench.core.lanes import WAYS, pipes_of
from edgebench.core.lanes import Way as Direction
from edgebench.core.links import Lane, Losses, Outages, Pipe, loss_draws
from edgebench.core.pending import Pending
from edgebench.core.routing import is_sparse
from edgebench.core.samples import Decision, Reading, SampleRecord
from edgebench.core.stream import Stream, Way, decided_on_device
from edgebench.core.tallies import Tally
from edgebench.core.timeouts import Expected
from edgebench.inference.spec import Manifest, TensorSpec
from edgebench.seeds import seed_for
from edgebench.simulation import columns
from edgebench.simulation.columns import ON_DEVICE
from edgebench.simulation.costs import Flow
from edgebench.simulation.draws import JITTERS, deviation, draw, first_delay
from edgebench.simulation.event_costs import Costs, EventCosts
from edgebench.simulation.event_links import BesideFiles, Connection, LossyLink, VirtualLink
from edgebench.simulation.event_server import VirtualServer
from edgebench.simulation.fleet import Group
from edgebench.simulation.layout import Layout
from edgebench.simulation.moving import GREETING_BYTES
from edgebench.topology.deployment import LinkPlan, WorkloadPlan
from edgebench.topology.model import After, Batch

SURE, UNSURE = np.array([1.0], np.float32), np.array([0.5], np.float32)
"""What a model would say of a sample that it is sure of, or not."""
_READING = Reading(SURE, None)
_ACCEPTED, _SUBSCRIBED = 2, 3
"""So much of the greeting is said when the broker has accepted a connection, and when it knows of the subscription."""
_ENVELOPE = b"kept"
"""Stands for what a device that moves may have to send again."""
MANIFEST = Manifest(
    digest="",
    size_bytes=0,
    task="",
    model_size="",
    runtime="fake",
    quantisation="float32",
    input=TensorSpec("float32", (1,)),
    outputs=1,
    batches=(1,),
    parameters=0,
    data_source="",
    real=False,
    examples=0,
    epochs=0,
    seed=0,
    evaluated_on="",
    metrics={},
    train_s=0.0,
)


class World:
    """What all nodes share. lanes: up and down, by link. moves: that have come to their end."""

    def __init__(self, time: VirtualTime, layout: Layout, rows: list[SampleRecord]) -> None:
        self.time = time
        self.layout = layout
        self.rows = rows
        self.costs = EventCosts(layout)
        self.devices: list[Device] = []
        self.tallies: dict[str, dict[str, Tally]] = {}
        self.lanes: dict[str, tuple[Lane, Lane]] = {}
        self.moves: list[Moved] = []
        self.connect_chance = seed_for(layout.topology.seed, "simulate", "connect")
        self.left_ns: dict[Rank, int] = {}
        """When what sets out for the cloud later than its edge says has left it, by message."""
        self.lossy: dict[str, list[LossyLink]] = {}
        """Both ways of each connection, by child."""
        self._pipes: dict[str, tuple[Pipe, Pipe]] = {}
        self._off_ns: dict[str, list[int]] = {}
        arrays = layout.arrays
        self.up_bytes, self.down_bytes = arrays.up_bytes.tolist(), arrays.down_bytes.tolist()
        self.forward_bytes, self.answer_bytes = arrays.forward_bytes.tolist(), arrays.answer_bytes.tolist()
        self.output_bytes = arrays.output_bytes.tolist()

    def tally(self, node: str, workload: str) -> Tally:
        """The counts of a workload at a node."""
        return self.tallies.setdefault(node, {}).setdefault(workload, Tally())

    def links(self, group: Group, index: int, parent: str) -> tuple[VirtualLink, VirtualLink]:
        """Those of a new connection, from and to a node of a group, across its link to a parent."""
        plan, node = self.layout.links[group.name], group.node(index)
        name = f"{node} -> {parent}"
        if name not in self.lanes:
            away = "" if parent == self.layout.fleet.site(group, index) else parent
            self.lanes[name] = self._lanes(plan, group, index, away)
        up, down = self.lanes[name]
        until_ns = self.layout.until_ns
        if plan.loses:
            both = LossyLink(self.time, up, until_ns, down), LossyLink(self.time, down, until_ns, up)
            self.lossy.setdefault(node, []).extend(both)
            return both
        link = BesideFiles if self.layout.learning else VirtualLink
        return link(self.time, up, until_ns), link(self.time, down, until_ns)

    def is_sparse(self, plan: WorkloadPlan) -> bool:
        """See there."""
        return is_sparse(plan, self.layout.topology.moves)

    def _lanes(self, plan: LinkPlan, group: Group, index: int, away: str) -> tuple[Lane, Lane]:
        if group.name not in self._pipes:
            self._pipes[group.name] = pipes_of(plan, self.layout.link_traces, begin_ns=0)
            self._off_ns[group.name] = self.layout.off_ns(plan)
        pipes = self._pipes[group.name]
        if group.name not in self.layout.shared:
            pipes = copy(pipes[0]), copy(pipes[1])  # each with a state of its own, and all with one trace
        up, down = (self._lane(plan, group, index, way, pipe, away) for way, pipe in zip(WAYS, pipes, strict=True))
        return up, down

    def _lane(self, plan: LinkPlan, group: Group, index: int, way: Direction, pipe: Pipe, away: str) -> Lane:
        """away: the site that a device has come to, where it is not at its own."""
        chance, number = self.layout.chance(group, way, away), group.first + index
        if plan.delay_trace is not None:
            # A factor of 1, and ns as they are: what windows draw is looked up likewise.
            jitter_ns, draws = 1, _delays(self._off_ns[group.name], chance, number)
        else:
            jitter_ns, draws = round(plan.jitter_ms * NS_PER_MS), _jitter(JITTERS.index(plan.jitter), chance, number)
        lane = Lane(pipe, round(plan.latency_ms * NS_PER_MS), jitter_ns, draws)
        if plan.loses:
            purpose = "simulate", group.node(index), way, *([away] if away else [])
            lane.losses = Losses(loss_draws(plan.loss_percent, self.layout.topology.seed, *purpose))
            lane.losses.outages = Outages(plan.outages, 0)
        return lane


def _jitter(law: int, stream: int, lane: int) -> Iterator[float]:
    return (deviation(law, stream, lane, number) for number in itertools.count())


def _delays(off_ns: Sequence[int], stream: int, lane: int) -> Iterator[float]:
    n = len(off_ns)
    return (off_ns[place % n] for place in itertools.count(first_delay(stream, lane, n)))


class _Sensor:
    """Gives the same each time: what is sensed plays no part here."""

    def capture(self) -> Reading:
        """See `SampleSource`."""
        return _READING


class Echo:
    """A model that says what it is shown."""

    def infer(self, x: NDArray[Any]) -> NDArray[np.float32]:
        """See `Runtime.infer`."""
        return np.asarray(x, np.float32)

    def close(self) -> None:
        """Nothing to release."""


class Message:
    """A sample on its way, and what its steps cost. rank: its place among those that come at one time. site: where its
    device was as it set out; connection: by which it did."""

    __slots__ = ("connection", "costs", "device", "flow", "rank", "seq", "site")

    def __init__(self, device: Device, flow: int, seq: int, costs: Costs) -> None:
        self.device = device
        self.site = device.site
        self.connection = device.connection
        self.flow = flow
        self.seq = seq
        self.costs = costs
        self.rank: Rank = (flow, device.number, seq)


class Site(Protocol):
    """The edge of a device."""

    @property
    def name(self) -> str:
        """Its name."""
        ...

    @property
    def group(self) -> int:
        """The number of its group."""
        ...

    def arrived(self, message: Message) -> None:
        """A sample of a device is here."""
        ...

    def bring_back(self, message: Message, decision: Decision) -> None:
        """A decision sets out from the cloud."""
        ...


class _StreamTime:
    """The time of a stream: what is due at one time comes in the order of workloads and devices."""

    def __init__(self, time: VirtualTime, rank: Rank) -> None:
        self._time = time
        self._rank = rank
        self.now_ns = time.now_ns

    def call_at(self, due_ns: int, call: Callable[[], None]) -> None:
        """See `stream.Time`."""
        self._time.call_at(due_ns, call, self._rank)


class Device:
    """One device: its site and its links to that, its streams, and when it has sent what it sensed before. where: its
    samples are decided, by workload. visit: so often it has come to another site."""

    def __init__(self, world: World, group: Group, index: int, site: Site) -> None:
        self.name = group.node(index)
        self.number = group.first + index
        self.site = site
        self.streams: dict[int, Stream] = {}
        self.where: dict[int, int] = {}
        self.free_ns = 0
        self._group = group.number
        self._world = world
        self.time = world.time
        self._now_ns = world.time.now_ns
        self.shares_up = group.name in world.layout.shared
        self.connection = Connection(*world.links(group, index, site.name))
        self.visit = 0
        self.moves = self.number in world.layout.visits
        self._mover = Mover(self.name, site.name) if self.moves else None
        self.accepted = self._subscribed = True
        """By the broker of its site, which it asks for its decisions before anything else; that has heard of it."""
        self._of = group
        world.devices.append(self)

    @property
    def moving(self) -> bool:
        """Whether it is on its way from one site to another."""
        return self._mover is not None and self._mover.moving

    def sense(self, flow: Flow, plan: WorkloadPlan, where: int, expected: Expected) -> None:
        """Have a stream of a workload."""
        world, taker = self._world, self._group if where == ON_DEVICE else self.site.group
        costs = world.costs.of(flow.number, self.number, (self._group, taker, world.layout.fleet.cloud.number))
        way = self._way(flow, plan, where, costs)
        tally, time = world.tally(self.name, flow.name), _StreamTime(world.time, (flow.number, self.number))
        stream = Stream(self.name, plan, _Sensor(), way, tally, time, world.rows, expected)
        self.streams[flow.number] = stream
        self.where[flow.number] = where
        if self._mover is not None:
            self._mover.streams.append(stream)

    def _way(self, flow: Flow, plan: WorkloadPlan, where: int, costs: Callable[[int], Costs]) -> Way:
        if where == ON_DEVICE:
            return _OwnWay(self._world, self, flow, plan, costs, self._group)
        return _SiteWay(self, flow, plan, costs)

    def let_follow(self) -> None:
        """Have each stream that waits for others told of their decisions."""
        by_workload = {stream.plan.name: stream for stream in self.streams.values()}
        for stream in self.streams.values():
            for before in stream.plan.load.workloads if isinstance(stream.plan.load, After) else ():
                by_workload[before].followers.append(stream)

    def leave(self, site: Site) -> None:
        """It leaves for another site, with all that is undecided."""
        world, mover = self._world, self._mover
        assert mover is not None
        unfinished = mover.leave(site.name, self._now_ns())
        if unfinished is not None:
            world.moves.append(unfinished)
        self.connection.close()
        self.site = site
        self.visit += 1
        self.accepted = self._subscribed = False
        self.connection = Connection(*world.links(self._of, self.number - self._of.first, site.name))
        took_ns = world.layout.connecting[self._of.name]
        chance = draw(world.connect_chance, self.number, self.visit)
        dial = partial(self._dial, self.visit)
        world.time.call_at(self._now_ns() + took_ns[int(chance * len(took_ns))], dial)

    def _dial(self, visit: int) -> None:
        if visit == self.visit:
            opened_ns = self.connection.up.opened_ns(self.connection.down)
            self._world.time.call_at(opened_ns, partial(self._greet, visit, 0))

    def _greet(self, visit: int, said: int) -> None:
        """So much of what is said until a connection stands has been."""
        mover = self._mover
        if visit != self.visit or mover is None:
            return
        self.accepted, self._subscribed = said >= _ACCEPTED, said >= _SUBSCRIBED
        if said < len(GREETING_BYTES):
            link = self.connection.down if said % 2 else self.connection.up
            link.carry(self._now_ns(), GREETING_BYTES[said], 0, FIRST, partial(self._greet, visit, said + 1), 0)
        elif (moved := mover.is_up(self._now_ns())) is not None:
            self._world.moves.append(moved)

    def give_up(self) -> None:
        """The streams are over: what is undecided is lost, and a move that did not come to its end never does."""
        for stream in self.streams.values():
            stream.give_up()
        unfinished = None if self._mover is None else self._mover.give_up()
        if unfinished is not None:
            self._world.moves.append(unfinished)

    def send_up(self, message: Message, at_ns: int) -> None:
        """A sample sets out to the site at a time, before which nothing else can."""
        costs, site = message.costs, self.site
        size = costs[columns.SIZE_DRAW] + self._world.up_bytes[message.flow][self._group]
        arrive = partial(site.arrived, message)
        if self.moves:
            message.site, message.connection = site, self.connection
            arrive = partial(self._arrive_unless_broken, message, size, arrive)
        self.connection.up.carry(at_ns, size, costs[columns.SITE_UP], message.rank, arrive)

    def send_down(self, message: Message, decision: Decision, reply_bytes: int) -> None:
        """A decision sets out from the site. Where its device has left that, nobody hears it."""
        size = reply_bytes + self._world.down_bytes[message.flow][self._group]
        hear = partial(self._hear, self.streams[message.flow], decision, reply_bytes)
        connection = self.connection
        if self.moves:
            if message.site is not self.site or not self._subscribed:
                connection = message.connection  # of which its broker may still think that it stands
                if connection.over:
                    return
            hear = partial(self._hear_if_there, connection, size, hear)
        purpose = columns.SITE_DOWN if decision.stamps.return_in_ns is None else columns.BROUGHT_DOWN
        connection.down.carry(self._now_ns(), size, message.costs[purpose], message.rank, hear)

    def _arrive_unless_broken(self, message: Message, size_bytes: int, arrive: Callable[[], None]) -> None:
        if message.connection.broken:
            message.connection.up.lost(size_bytes)
        else:
            arrive()

    def _hear_if_there(self, connection: Connection, size_bytes: int, hear: Callable[[], None]) -> None:
        """What comes to an end that is closed is answered with a reset, which takes all that is under way along."""
        if connection is self.connection:
            hear()
        elif connection.broken:
            connection.down.lost(size_bytes)
        else:
            connection.reset()

    def _hear(self, stream: Stream, decision: Decision, reply_bytes: int) -> None:
        stream.decided(decision, self._now_ns(), reply_bytes)


class SiteWay(ABC):
    """To the site, over the device's link. While a device moves what it senses waits, and is dropped at QoS 0."""

    def __init__(self, device: Device, flow: Flow, plan: WorkloadPlan, costs: Callable[[int], Costs]) -> None:
        """costs: of a sample, by its number."""
        self._device = device
        self._flow = flow.number
        self._costs = costs
        self._envelope = _ENVELOPE if device.moves and plan.qos else b""
        self._staying: set[int] = set()
        """What has yet to set out, of a device that moves."""

    def send_again(self, incarnation: int, seq: int, envelope: bytes, *, moved: bool) -> None:
        """See `Way.send_again`."""
        if seq not in self._staying:
            self._go_again(Message(self._device, self._flow, seq, self._costs(seq)))

    @abstractmethod
    def _go_again(self, message: Message) -> None:
        """Send a sample that was sent before, or held back."""

    def _stays(self, message: Message) -> Callable[[int], None]:
        """A sample is to set out; what to call once it is time to."""
        self._staying.add(message.seq)
        return partial(self._set_out, message)

    def _set_out(self, message: Message, at_ns: int) -> None:
        self._staying.discard(message.seq)
        if self._may_send:
            self._device.send_up(message, at_ns)
        elif not self._envelope:
            self._device.streams[self._flow].dropped(message.seq, "not-connected")

    @property
    def _may_send(self) -> bool:
        """What is kept waits until the device is told that it is there."""
        return not self._device.moving if self._envelope else self._device.accepted


class _SiteWay(SiteWay):
    """From a device that takes one sample after another, whatever else it does."""

    def __init__(self, device: Device, flow: Flow, plan: WorkloadPlan, costs: Callable[[int], Costs]) -> None:
        super().__init__(device, flow, plan, costs)
        self._time = device.time

    @property
    def backed_up(self) -> bool:
        """Whether the device, or its link, has enough to do."""
        now_ns, device = self._time.now_ns(), self._device
        return device.free_ns > now_ns or device.connection.up.backed_up

    def send(self, _stream: Stream, seq: int, scheduled_ns: int, captured_ns: int, _reading: Reading) -> Pending:
        """See `Way.send`."""
        device, costs = self._device, self._costs(seq)
        message = Message(device, self._flow, seq, costs)
        captured_ns = max(device.free_ns, captured_ns + costs[columns.TIMER])
        sent_ns = device.free_ns = captured_ns + costs[columns.CAPTURE]
        pending = Pending(scheduled_ns, captured_ns, sent_ns, costs[columns.SIZE_DRAW], None, envelope=self._envelope)
        if device.moves:
            if not self._envelope and not self._may_send:
                return msgspec.structs.replace(pending, refused="not-connected")
            self._time.call_at(sent_ns, partial(self._stays(message), sent_ns), message.rank)
        elif device.shares_up:
            self._time.call_at(sent_ns, partial(device.send_up, message, sent_ns), message.rank)
        else:  # a link of its own carries them in the order in which they were sensed
            device.send_up(message, sent_ns)
        return pending

    def _go_again(self, message: Message) -> None:
        self._device.send_up(message, self._time.now_ns())


class _OwnWay:
    """To the device's own model."""

    backed_up = False

    def __init__(
        self, world: World, device: Device, flow: Flow, plan: WorkloadPlan, costs: Callable[[int], Costs], group: int
    ) -> None:
        """costs: of a sample, by its number. group: the device's."""
        self._world = world
        self._device = device
        self._flow = flow.number
        self._costs = costs
        self._group = group
        self._under_way: dict[int, Costs] = {}
        self._free_ns = 0
        self._heard_ns = 0
        self._server: VirtualServer[tuple[Stream, int]] = VirtualServer(
            world.time,
            Batch(max_batch=1),
            plan.queue,
            self,
            self._service_ns,
            wake_ns=lambda request: self._under_way[request.about[1]][columns.WAKE],
            free_ns=lambda: self._free_ns,
        )
        self._server.swap(Echo(), MANIFEST)

    def send(self, stream: Stream, seq: int, scheduled_ns: int, captured_ns: int, _reading: Reading) -> Pending:
        """See `Way.send`."""
        device, costs = self._device, self._costs(seq)
        self._under_way[seq] = costs
        captured_ns = max(device.free_ns, captured_ns + costs[columns.TIMER])
        ready_ns = device.free_ns = captured_ns + costs[columns.OWN_CAPTURE]
        request = InferenceRequest(SURE, captured_ns, (stream, seq))
        rank = (self._flow, device.number, seq)
        self._world.time.call_at(ready_ns, partial(self._server.submit, request), rank)
        return Pending(scheduled_ns, captured_ns, captured_ns, 0, None)

    def send_again(self, incarnation: int, seq: int, envelope: bytes, *, moved: bool) -> None:
        """Do nothing: what never travels is never sent again."""

    def served(self, served: Served[tuple[Stream, int]]) -> None:
        """Bring a decision to its stream."""
        (request,) = served.requests
        costs, now_ns = self._under_way.pop(request.about[1]), self._world.time.now_ns()
        self._free_ns = now_ns + costs[columns.ANSWER]
        self._heard_ns = max(self._heard_ns, now_ns + costs[columns.HEAR])
        self._world.time.call_at(self._heard_ns, partial(decided_on_device, served, self._heard_ns))

    def dropped(self, request: InferenceRequest[tuple[Stream, int]], reason: str) -> None:
        """Tell the stream."""
        stream, seq = request.about
        del self._under_way[seq]
        stream.dropped(seq, reason)

    def swapped(self, manifest: Manifest) -> None:
        """Nothing is written down of it."""

    def _service_ns(self, requests: Sequence[InferenceRequest[tuple[Stream, int]]], at_once: bool) -> int:
        key = self._flow, self._group, self._device.number, requests[0].about[1]
        return self._world.costs.service_ns(columns.INFER, *key, 1, at_once=at_once)
