"""The same tree, an event after another, by the very code that decides in a run: where what happens acts back on what
came before, as in closed loops, in workloads that follow others, across links that lose packets, at nodes whose
threads wait for a core, where devices move, and where they learn together.

Streams, intake, queues, batches, deciders, forwarders and the law of links are those of `edgebench.core`; this gives
them virtual time, and what each step costs."""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from functools import partial

import numpy as np

from edgebench.clock import NS_PER_S
from edgebench.core.device import Moved
from edgebench.core.expecting import expected_of
from edgebench.core.fake_transport import Rank, VirtualTime
from edgebench.core.lanes import WAYS
from edgebench.core.samples import SampleRecord
from edgebench.core.schedules import query_size
from edgebench.core.tallies import Tally
from edgebench.fabric.records import RoundRecord
from edgebench.simulation.columns import AT_EDGE, ON_DEVICE, Carried
from edgebench.simulation.event_contention import ContendedCloud, ContendedDevice, ContendedEdge
from edgebench.simulation.event_devices import Device, World
from edgebench.simulation.event_learning import VirtualFederations
from edgebench.simulation.event_nodes import Cloud, Edge
from edgebench.simulation.layout import Layout
from edgebench.simulation.recording import Visited
from edgebench.topology.deployment import Deployment
from edgebench.topology.link_model import KEEPALIVE_S
from edgebench.topology.model import Tier

_TICK_NS = NS_PER_S // 4
"""As often as devices look in a run."""
_WINDOW_NS = NS_PER_S


class EventDriven:
    """One simulation. After `run`, `tallies` are as the processes of a run would have written them down."""

    def __init__(self, layout: Layout, deployment: Deployment) -> None:
        fleet = layout.fleet
        self._time = VirtualTime()
        self._layout = layout
        self._rows: list[SampleRecord] = []
        world = World(self._time, layout, self._rows)
        self._world = world
        contended = layout.contended
        cloud = ContendedCloud(world, fleet.cloud) if fleet.cloud.name in contended else Cloud(world)
        edges: list[Edge | ContendedEdge] = []
        for group in fleet.of_tier("edge"):
            edge_of = ContendedEdge if group.name in contended else Edge
            edges += [edge_of(world, group, index, cloud) for index in range(group.count)]
        for group in fleet.of_tier("device"):
            device_of = ContendedDevice if group.name in contended else Device
            for index in range(group.count):
                device_of(world, group, index, edges[fleet.edge_of[group.first + index]])
        for flow in layout.flows:
            plan = deployment.workloads[flow.name]
            expected = expected_of(plan, deployment)
            for number, where in zip(flow.devices.tolist(), flow.where.tolist(), strict=True):
                device = world.devices[number]
                device.sense(flow, plan, where, expected)
                if where != ON_DEVICE:
                    edges[fleet.edge_of[number]].serve(flow, plan, where)
                    for _, edge in layout.visits.get(number, ()):
                        edges[edge].serve(flow, plan, where)
                if where not in (ON_DEVICE, AT_EDGE):
                    cloud.serve(flow, plan, where)
        for device in world.devices:
            device.let_follow()
        for number, stays in layout.visits.items():
            for at_ns, edge in stays:
                self._time.call_at(at_ns, partial(world.devices[number].leave, edges[edge]))
        self._federations = VirtualFederations(self._time, deployment, layout.learning, world.lanes)
        self._tallies: dict[str, dict[str, Tally]] | None = None
        """As they were when the streams were over, where rounds go on."""
        self._streams = [stream for device in world.devices for stream in device.streams.values()]
        self._closed = [stream for stream in self._streams if query_size(stream.plan.load) is not None]

    @property
    def tallies(self) -> dict[str, dict[str, Tally]]:
        """Node -> workload -> counts, of those that have any."""
        counted = {
            node: {name: tally for name, tally in of_node.items() if tally != Tally()}
            for node, of_node in (self._tallies or self._world.tallies).items()
        }
        return {node: of_node for node, of_node in counted.items() if of_node}

    @property
    def carried(self) -> dict[tuple[str, str], Carried]:
        """What has crossed links, by the tier of the child and direction."""
        found: dict[tuple[str, str], Carried] = {}
        for tier in ("device", "edge"):
            both = [self._world.lanes[name] for name in self._own_links(tier)]
            for place, way in enumerate(WAYS):
                lanes = [lanes[place] for lanes in both]
                found[tier, way] = Carried(
                    np.array([lane.bytes for lane in lanes], np.int64),
                    np.array([lane.messages for lane in lanes], np.int64),
                )
        return found

    def visited(self) -> Iterator[Visited]:
        """What has crossed the links of devices to sites that they have come to."""
        own = {*self._own_links("device"), *self._own_links("edge")}
        for name, (up, down) in self._world.lanes.items():
            if name not in own:
                group = self._layout.fleet.group_named(name.partition(" -> ")[0])
                yield Visited(group.name, name, up.bytes, down.bytes, up.messages, down.messages)

    def _own_links(self, tier: Tier) -> Iterator[str]:
        fleet = self._layout.fleet
        for group in fleet.of_tier(tier):
            yield from (f"{group.node(index)} -> {fleet.site(group, index)}" for index in range(group.count))

    @property
    def moves(self) -> list[Moved]:
        """Those that have come to their end, or never will, in the order in which they began."""
        return sorted(self._world.moves, key=lambda move: move.left_ns)

    @property
    def rounds(self) -> list[RoundRecord]:
        """Of federations."""
        return self._federations.rounds

    @property
    def left_ns(self) -> dict[Rank, int]:
        """See `World`."""
        return self._world.left_ns

    def lost_percent(self) -> dict[str, dict[str, float]]:
        """Of the packets that came by outside of outages how many were lost, by link and direction, of lossy links."""
        found: dict[str, dict[str, float]] = {}
        for link, lanes in self._world.lanes.items():
            for way, lane in zip(WAYS, lanes, strict=True):
                if lane.losses is not None and lane.losses.packets:
                    found.setdefault(link, {})[way] = 100.0 * lane.losses.lost / lane.losses.packets
        return found

    def silent(self) -> list[str]:
        """Connections that a run would have lost, since nothing came through for longer than MQTT's keep-alive: the
        worst of each group, in lines."""
        worst: dict[str, tuple[int, str]] = {}
        for group in (*self._layout.fleet.of_tier("edge"), *self._layout.fleet.of_tier("device")):
            for node in group.nodes():
                for link in self._world.lossy.get(node, ()):
                    worst[group.name] = max(worst.get(group.name, (0, "")), (link.most_silent_ns, node))
        return [
            f"links of {name}: nothing came through to or from {node} for {ns / NS_PER_S:.0f} s, after which MQTT may "
            f"break a connection, and no simulation does (keep-alive {KEEPALIVE_S} s; lose less, or shorten outages)"
            for name, (ns, node) in worst.items()
            if ns > KEEPALIVE_S * NS_PER_S
        ]

    def run(self) -> Iterator[list[SampleRecord]]:
        """The samples, as they come to their end; those without `arrived_ns` are lost.

        Raises EdgebenchError where a service time is needed that is not known.
        """
        topology, end_ns, until_ns = self._layout.topology, self._layout.end_ns, self._layout.until_ns
        for stream in self._streams:
            trace_s = list(self._layout.traces.get(stream.plan.paced_by or stream.plan.name, ()))
            stream.begin(0, seed=topology.seed, duration_s=topology.duration_s, trace_s=trace_s)
        if self._closed:
            self._tick()
        self._federations.begin()
        now_ns = 0
        while now_ns < end_ns or (now_ns < until_ns and any(stream.pending for stream in self._streams)):
            now_ns = min(now_ns + _WINDOW_NS, until_ns if now_ns >= end_ns else end_ns)
            self._time.run(now_ns)
            yield self._taken()
        for device in self._world.devices:
            device.give_up()
        yield self._taken()
        if not self._federations.are_over:
            self._tallies = deepcopy(self._world.tallies)
        while not self._federations.are_over:
            now_ns += _WINDOW_NS
            self._time.run(now_ns)
        self._rows.clear()  # of what had been given up

    def _tick(self) -> None:
        """A closed loop goes on where a query of it never comes back."""
        now_ns = self._time.now_ns()
        for stream in self._closed:
            stream.give_up_query(now_ns)
        if now_ns < self._layout.end_ns:
            self._time.call_at(now_ns + _TICK_NS, self._tick)

    def _taken(self) -> list[SampleRecord]:
        taken = self._rows[:]
        self._rows.clear()
        return taken
