"""All that happens in some parts of a window of time, part by part and station by station, in two calls, of which the
one for what is below can be ahead of the other: nothing above acts back. What it costs to come here from Python, and to
wait for another thread, is paid once for thousands of messages, and those of a part are still in the processor's
cache."""

from __future__ import annotations

from typing import Any

import numpy as np

from edgebench.simulation.columns import (
    AT_CLOUD,
    AT_EDGE,
    END,
    FIRST_KEY,
    FOR_CLOUD,
    FOR_DEVICES,
    LAST_KEY,
    NEAR,
    ON_DEVICE,
    SINCE,
    UNTIL,
    WINDOW,
    Above,
    BagsAbove,
    BagsBelow,
    Below,
    Flows,
    HandedOver,
    Ints,
    Parts,
    Rows,
)
from edgebench.simulation.jit import jit
from edgebench.simulation.ordering import Room, brought_forward, in_order, poured
from edgebench.simulation.servers import served
from edgebench.simulation.stages import (
    decided_on_devices,
    sensed,
    sent_to_cloud,
    sent_to_devices,
    sent_to_edges,
    sent_to_edges_together,
    taken_in_at_cloud,
    taken_in_at_edges,
)

_tiers: list[Any] = [np.int64(ON_DEVICE), np.int64(AT_EDGE), np.int64(AT_CLOUD)]
_DEVICE, _EDGE, _CLOUD = _tiers
"""Of a plain number numba would make a type, and compile `served` for each."""


@jit
def _bits(rows: Rows) -> int:
    """So many are enough for the number of any message."""
    bits = 1
    while len(rows) >> bits:
        bits += 1
    return bits


@jit
def below(
    parts: Parts,
    due: Ints,
    source_bits: int,
    tree: Below,
    bags: BagsBelow,
    rows: Rows,
    flows: Flows,
    room: Room,
    handed_over: HandedOver,
) -> int:
    """Devices, edges, and their links. due: the keys of what falls due in the window. handed_over: is filled in. It
    gives what `servers.served` does."""
    for number in range(len(parts)):
        lacks = _below(parts[number], due, source_bits, tree, bags, rows, flows, room)
        if lacks:
            return lacks
        handed_over[number, FOR_CLOUD] = bags.at_cloud[NEAR]
        handed_over[number, FOR_DEVICES] = bags.to_devices[NEAR]
    return 0


@jit
def _below(
    part: Ints,
    due: Ints,
    source_bits: int,
    tree: Below,
    bags: BagsBelow,
    rows: Rows,
    flows: Flows,
    room: Room,
) -> int:
    window, end, since, until = part[WINDOW], part[END], part[SINCE], part[UNTIL]
    bits, slots = _bits(rows), room.slots
    if since == window:
        for bag in (bags.to_links, bags.to_edges, bags.ready_on_devices, bags.ready_at_edges, bags.to_cloud):
            brought_forward(bag)
    sensed(
        due,
        part[FIRST_KEY],
        part[LAST_KEY],
        source_bits,
        window,
        bags.unused,
        rows,
        tree.sources,
        tree.devices,
        flows,
        tree.up,
        bags.to_links,
        bags.to_edges,
        bags.ready_on_devices,
    )
    n = in_order(bags.to_links, rows, since, until, end, bits, room)
    sent_to_edges_together(slots, n, rows, flows, tree.up, bags.to_edges)
    n = in_order(bags.to_edges, rows, since, until, end, bits, room)
    taken_in_at_edges(slots, n, rows, tree.edge_group, tree.edge_free, flows, bags.ready_at_edges, bags.to_cloud)
    lacks = served(
        tree.edges,
        bags.ready_at_edges,
        until,
        end,
        _EDGE,
        tree.edge_group,
        flows,
        rows,
        bags.to_devices,
        bags.to_cloud,
        bags.done,
    )
    n = in_order(bags.to_cloud, rows, since, until, end, bits, room)
    sent_to_cloud(slots, n, rows, tree.edge_group, flows, tree.far_up, bags.at_cloud)
    if lacks or until < end or len(tree.own) == 0:
        return lacks
    # What devices decide by themselves meets nothing else, and is gone through once a window: all are asked.
    lacks = served(
        tree.own,
        bags.ready_on_devices,
        end,
        end,
        _DEVICE,
        tree.device_group,
        flows,
        rows,
        bags.decided,
        bags.to_cloud,
        bags.done,
    )
    decided_on_devices(bags.decided, rows, tree.heard, flows, bags.done)
    return lacks


@jit
def above(
    parts: Parts, tree: Above, bags: BagsAbove, rows: Rows, flows: Flows, room: Room, handed_over: HandedOver
) -> int:
    """The cloud, and the way back; as `below`."""
    for_cloud = for_devices = 0
    for number in range(len(parts)):
        more_for_cloud, more_for_devices = handed_over[number, FOR_CLOUD], handed_over[number, FOR_DEVICES]
        poured(bags.for_cloud, for_cloud, more_for_cloud, bags.at_cloud)
        poured(bags.for_devices, for_devices, more_for_devices, bags.to_devices)
        for_cloud, for_devices = more_for_cloud, more_for_devices
        lacks = _above(parts[number], tree, bags, rows, flows, room)
        if lacks:
            return lacks
    bags.for_cloud[NEAR] = bags.for_devices[NEAR] = 0
    return 0


@jit
def _above(part: Ints, tree: Above, bags: BagsAbove, rows: Rows, flows: Flows, room: Room) -> int:
    end, since, until = part[END], part[SINCE], part[UNTIL]
    bits, slots = _bits(rows), room.slots
    if since == part[WINDOW]:
        for bag in (bags.at_cloud, bags.ready_at_cloud, bags.from_cloud, bags.to_devices):
            brought_forward(bag)
    n = in_order(bags.at_cloud, rows, since, until, end, bits, room)
    taken_in_at_cloud(slots, n, rows, tree.cloud_group, tree.cloud_free, flows, bags.ready_at_cloud)
    lacks = served(
        tree.cloud,
        bags.ready_at_cloud,
        until,
        end,
        _CLOUD,
        tree.cloud_group,
        flows,
        rows,
        bags.from_cloud,
        bags.from_cloud,
        bags.done,
    )
    if lacks:
        return lacks
    n = in_order(bags.from_cloud, rows, since, until, end, bits, room)
    sent_to_edges(slots, n, rows, tree.edge_group, tree.return_free, flows, tree.far_down, bags.to_devices)
    n = in_order(bags.to_devices, rows, since, until, end, bits, room)
    sent_to_devices(slots, n, rows, flows, tree.down, bags.done)
    return 0
