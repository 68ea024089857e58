"""The same tree, an event after another, by the very code that decides in a run: where what happens acts back on what
came before, as in closed loops, in workloads that follow others, across links that lose packets, and at nodes whose
threads wait for a core.

Streams, intake, queues, batches, deciders, forwarders and the law of links are those of `edgebench.core`; this gives
them virtual time, and what each step costs."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from edgebench.clock import NS_PER_S
from edgebench.core.expecting import expected_of
from edgebench.core.fake_transport import Rank, VirtualTime
from edgebench.core.lanes import WAYS
from edgebench.core.samples import SampleRecord
from edgebench.core.schedules import query_size
from edgebench.core.tallies import Tally
from edgebench.simulation.columns import AT_EDGE, ON_DEVICE, Carried
from edgebench.simulation.event_contention import ContendedCloud, ContendedDevice, ContendedEdge
from edgebench.simulation.event_devices import Device, World
from edgebench.simulation.event_nodes import Cloud, Edge
from edgebench.simulation.layout import Layout
from edgebench.topology.deployment import Deployment
from edgebench.topology.link_model import KEEPALIVE_S

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
                if where not in (ON_DEVICE, AT_EDGE):
                    cloud.serve(flow, plan, where)
        for device in world.devices:
            device.let_follow()
        self._streams = [stream for device in world.devices for stream in device.streams.values()]
        self._closed = [stream for stream in self._streams if query_size(stream.plan.load) is not None]

    @property
    def tallies(self) -> dict[str, dict[str, Tally]]:
        """Node -> workload -> counts, of those that have any."""
        counted = {
            node: {name: tally for name, tally in of_node.items() if tally != Tally()}
            for node, of_node in self._world.tallies.items()
        }
        return {node: of_node for node, of_node in counted.items() if of_node}

    @property
    def carried(self) -> dict[tuple[str, str], Carried]:
        """What has crossed links, by the tier of the child and direction."""
        found = {}
        for tier in ("device", "edge"):
            names = [name for group in self._layout.fleet.of_tier(tier) for name in group.nodes()]
            for way in ("up", "down"):
                lanes = [self._world.lanes[name, way] for name in names]
                found[tier, way] = Carried(
                    np.array([lane.bytes for lane in lanes], np.int64),
                    np.array([lane.messages for lane in lanes], np.int64),
                )
        return found

    @property
    def left_ns(self) -> dict[Rank, int]:
        """See `World`."""
        return self._world.left_ns

    def lost_percent(self) -> dict[str, dict[str, float]]:
        """Of the packets that came by outside of outages how many were lost, by child and direction, of lossy links."""
        found: dict[str, dict[str, float]] = {}
        for node in self._world.lossy:
            for way in WAYS:
                losses = self._world.lanes[node, way].losses
                if losses is not None and losses.packets:
                    found.setdefault(node, {})[way] = 100.0 * losses.lost / losses.packets
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
        now_ns = 0
        while now_ns < end_ns or (now_ns < until_ns and any(stream.pending for stream in self._streams)):
            now_ns = min(now_ns + _WINDOW_NS, until_ns if now_ns >= end_ns else end_ns)
            self._time.run(now_ns)
            yield self._taken()
        for stream in self._streams:
            stream.give_up()
        yield self._taken()

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
