"""Whether more is kept at a node than its store has room for: a run drops the rest (`edge_node.cloud_bound`,
`device_agent.outbox`), and no simulation does. It is looked at some thousands of instants, evenly spread."""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping, Sequence

import numpy as np
from numpy.typing import NDArray

from edgebench.clock import NS_PER_MS
from edgebench.core.fake_transport import Rank
from edgebench.core.samples import SampleRecord
from edgebench.simulation.columns import (
    ABSENT,
    ARRIVED,
    AT_CLOUD,
    CAPTURED,
    CASCADE,
    CHAIN,
    COLUMNS,
    DEVICE,
    EDGE,
    FLOW,
    FORWARD_OUT,
    ON_DEVICE,
    RECEIVED,
    RETURN_IN,
    SIZE,
    Ints,
    Rows,
)
from edgebench.simulation.costs import Flow
from edgebench.simulation.jit import inlined, jit
from edgebench.simulation.layout import Layout
from edgebench.simulation.moving import sites_at

_INSTANTS = 1 << 13
_LEAST_INSTANTS = 1 << 8
_MOST_NUMBERS = 1 << 22
"""So many are kept of all stores together, unless the least instants of each are more."""
_PLACES = 1 << 8
_MB = 1_000_000


class Stores:
    """What edges keep of what they pass on, until it is answered where durability is promised, else while it waits for
    the uplink; and where it is promised what agents, the devices of a group at a site, keep until it is decided."""

    def __init__(self, layout: Layout) -> None:
        edges = layout.fleet.of_tier("edge")
        self._layout = layout
        self._until_answered = layout.topology.durability != "none"
        counts = [group.count for group in edges]
        uplinks = [layout.links[group.name] for group in edges]
        rated = np.repeat([link.up_mbit_s is not None or link.loses for link in uplinks], counts)
        latency_ns = [round(link.latency_ms * NS_PER_MS) + max(layout.off_ns(link), default=0) for link in uplinks]
        way_ns = np.repeat(np.array(latency_ns, np.int64), counts)
        self._way_ns = np.zeros_like(way_ns) if self._until_answered else way_ns
        self._agents, self._agent_of = _agents(layout)
        goes_on = [bool(np.isin(flow.where, (AT_CLOUD, CASCADE, CHAIN)).any()) for flow in layout.flows]
        passing = [bool(flow.plan.qos) and there for flow, there in zip(layout.flows, goes_on, strict=True)]
        travelling = [self._until_answered and bool((flow.where != ON_DEVICE).any()) for flow in layout.flows]
        self._at_edges = _numbered(np.outer(passing, rated | self._until_answered))
        self._at_agents = _numbered(np.outer(travelling, np.ones(len(self._agents), bool)))
        stores = [int(of.max(initial=ABSENT)) + 1 for of in (self._at_edges, self._at_agents)]
        instants = max(_LEAST_INSTANTS, min(_INSTANTS, _MOST_NUMBERS // max(1, sum(stores))))
        self._step_ns = layout.until_ns // instants + 1
        self._edge_bytes, self._agent_bytes = (np.zeros((n, instants + 1), np.int64) for n in stores)
        self._flow_of = {flow.name: flow.number for flow in layout.flows}
        self._device_of: dict[str, int] = {}

    def take(self, rows: Rows) -> None:
        """Take in messages that have come to their end [message, column]."""
        until_ns, step_ns = self._layout.until_ns, self._step_ns
        if len(self._edge_bytes):
            ends = RETURN_IN if self._until_answered else RECEIVED
            output_bytes = self._layout.arrays.output_bytes
            of = self._edge_bytes, self._at_edges, rows, ends, output_bytes, self._way_ns
            _hold_at_edges(*of, until_ns, step_ns)
        if len(self._agent_bytes):
            _hold_at_agents(self._agent_bytes, self._at_agents, rows, self._agent_of, until_ns, step_ns)

    def take_records(self, records: Sequence[SampleRecord], left_ns: MutableMapping[Rank, int]) -> None:
        """The same, as an event after another gives them; of what was passed on and never decided they do not tell.

        left_ns: when a message has left its edge, where that is later than its record says.
        """
        if not len(self._edge_bytes) and not len(self._agent_bytes):
            left_ns.clear()
            return
        fleet = self._layout.fleet
        if not self._device_of:
            names = (name for group in fleet.of_tier("device") for name in group.nodes())
            self._device_of = {name: number for number, name in enumerate(names)}
        rows = np.full((len(records), COLUMNS), ABSENT, np.int64)
        for row, record in zip(rows, records, strict=True):
            row[FLOW], row[DEVICE] = self._flow_of[record.workload], self._device_of[record.node]
            row[CAPTURED], row[SIZE], row[ARRIVED] = record.captured_ns, record.size_bytes, _stamp(record.arrived_ns)
            if record.decision is not None:
                stamps = record.decision.stamps
                row[FORWARD_OUT], row[RETURN_IN] = _stamp(stamps.forward_out_ns), _stamp(stamps.return_in_ns)
            left = left_ns.pop((row[FLOW], row[DEVICE], record.seq), None)
            if left is not None and row[FORWARD_OUT] != ABSENT:
                row[FORWARD_OUT] = left
                row[RECEIVED] = stamps.received_ns
        rows[:, EDGE] = sites_at(rows[:, DEVICE], rows[:, ARRIVED], fleet.edge_of, self._layout.visits)
        self.take(rows)

    def overfull(self) -> list[str]:
        """A line for each workload of which there was more than a store has room for, with the fullest."""
        return [line for flow in self._layout.flows for line in (*self._at_edge(flow), *self._at_agent(flow))]

    def _at_edge(self, flow: Flow) -> Iterator[str]:
        (edges,) = np.nonzero(self._at_edges[flow.number] != ABSENT)
        if not len(edges):
            return
        most = _most(self._edge_bytes, self._at_edges[flow.number, edges])
        besides = "" if self._until_answered else " but for some MB that its connection takes"
        yield from _told(flow, most, [self._layout.fleet.name("edge", edge) for edge in edges.tolist()], besides)

    def _at_agent(self, flow: Flow) -> Iterator[str]:
        places = self._at_agents[flow.number]
        if (places != ABSENT).all():
            yield from _told(flow, _most(self._agent_bytes, places), self._agents, "")


def _agents(layout: Layout) -> tuple[list[str], Ints]:
    """What each agent is called, and which is a device's [device]."""
    fleet, edges, groups = layout.fleet, layout.fleet.count("edge"), list(layout.fleet.groups)
    found, agent_of = np.unique(fleet.group_of("device") * edges + fleet.edge_of, return_inverse=True)
    names = [f"the devices of {groups[each // edges]} at {fleet.name('edge', each % edges)}" for each in found.tolist()]
    return names, agent_of.astype(np.int64)


def _numbered(there: NDArray[np.bool_]) -> Ints:
    """Of those that are there the number among these, of others `ABSENT` [workload, node]."""
    return np.where(there, there.cumsum().reshape(there.shape) - 1, ABSENT).astype(np.int64)


def _most(net: Ints, places: Ints) -> Ints:
    """How much was kept at most [place], of what `_hold` noted; some places at a time, for want of memory."""
    parts = (places[first : first + _PLACES] for first in range(0, len(places), _PLACES))
    return np.concatenate([net[part].cumsum(axis=1).max(axis=1) for part in parts])


def _told(flow: Flow, most: Ints, names: Sequence[str], besides: str) -> Iterator[str]:
    """most: bytes [node]."""
    room_mb = flow.plan.store.max_mb
    fullest = int(most.argmax())
    if most[fullest] > room_mb * _MB:
        held = f"{names[fullest]} kept {most[fullest] / _MB:,.1f} MB at once, and store.max_mb is {room_mb}"
        dropped = f"a run drops the rest{besides}, which no simulation does (raise it, or lower the rate)"
        yield f"{flow.name}: {held}: {dropped}"


def _stamp(ns: int | None) -> int:
    return ABSENT if ns is None else ns


@inlined
def _hold(net: Ints, place: int, since_ns: int, ends_ns: int, amount: int, step_ns: int) -> None:
    """Note by how much what is kept differs from the instant before [place, instant]; instants are steps apart."""
    last = net.shape[1] - 1
    first = min((since_ns + step_ns - 1) // step_ns, last)
    after = min((ends_ns + step_ns - 1) // step_ns, last)
    if first < after:
        net[place, first] += amount
        net[place, after] -= amount


@jit
def _hold_at_edges(
    net: Ints, at_edges: Ints, rows: Rows, ends: int, output_bytes: Ints, way_ns: Ints, until_ns: int, step_ns: int
) -> None:
    """ends: the column of when it is there no more. way_ns: what of that time is not spent there [edge]."""
    for n in range(len(rows)):
        since_ns = rows[n, FORWARD_OUT]
        place = at_edges[rows[n, FLOW], rows[n, EDGE]]
        if since_ns == ABSENT or place == ABSENT:
            continue
        output = output_bytes[rows[n, FLOW]]
        amount = rows[n, SIZE] if output < 0 else output
        ends_ns = rows[n, ends] if rows[n, ends] >= since_ns else until_ns  # what never came to an end
        _hold(net, place, since_ns, ends_ns - way_ns[rows[n, EDGE]], amount, step_ns)


@jit
def _hold_at_agents(net: Ints, at_agents: Ints, rows: Rows, agent_of: Ints, until_ns: int, step_ns: int) -> None:
    """agent_of: of each device. What was sensed is there until its decision has come."""
    for n in range(len(rows)):
        place = at_agents[rows[n, FLOW], agent_of[rows[n, DEVICE]]]
        if place != ABSENT:
            since_ns = rows[n, CAPTURED]
            ends_ns = rows[n, ARRIVED] if rows[n, ARRIVED] >= since_ns else until_ns
            _hold(net, place, since_ns, ends_ns, rows[n, SIZE], step_ns)
