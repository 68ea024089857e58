"""The stations of a tree, as loops over what arrives at them in order of time.

What arrives in a part of a window is put in order once; each station goes through it as its law says and keeps its
state for the next one. Nothing that happens at a station changes what has arrived there before, so they are gone
through one after another: devices and their links, edges, their links, the cloud, and the same way back."""

from __future__ import annotations

import numpy as np

from edgebench.clock import NS_PER_MS
from edgebench.simulation.columns import (
    ABSENT,
    ARRIVED,
    AT,
    AT_CLOUD,
    BACKHAUL_DOWN,
    BACKHAUL_UP,
    BROUGHT_DOWN,
    CAPTURE,
    CAPTURED,
    CHANCE,
    CLOUD_DECODE,
    CLOUD_INTAKE,
    CLOUD_REPLY,
    DECIDER,
    DECODE,
    DELAYS,
    DEVICE,
    DRAWN,
    DUE,
    EDGE,
    FINISHED,
    FIRST,
    FIRST_DELAY,
    FIRST_STEP,
    FLOW,
    FORWARD_IN,
    FORWARD_OUT,
    FREE,
    GONE,
    GONE_NS,
    GROUP,
    HAND_BACK,
    HEAR,
    INTAKE,
    JITTER,
    KIND,
    LAST,
    LATENCY,
    LAW,
    NEAR,
    NEXT_SEQ,
    OF_DEVICE,
    OF_FLOW,
    OFFSET,
    ON_DEVICE,
    OWN_CAPTURE,
    PASS_ON,
    PIPE,
    READY,
    RECEIVED,
    RELAY,
    REPLIED,
    REPLY_DRAW,
    REPLY_SIZE,
    REPORT,
    RETURN_IN,
    RETURN_OUT,
    ROOM,
    SENT,
    SEQ,
    SHARED,
    SITE_DOWN,
    SITE_UP,
    SIZE,
    SIZE_DRAW,
    STEPS,
    TAKEN,
    TIMER,
    WHERE,
    Bag,
    Devices,
    Flows,
    Ints,
    Lanes,
    Rows,
    Sources,
)
from edgebench.simulation.draws import cost, deviation, first_delay, push
from edgebench.simulation.jit import inlined, jit, prefetch
from edgebench.topology.link_traces import OPPORTUNITY_BYTES

AHEAD = 8
"""So many messages ahead what is kept of a device is fetched: of a million devices it is in no cache."""


@jit
def _left_by_trace(lanes: Lanes, kind: int, pipe: int, starts: int, size_bytes: int) -> int:
    """When a message has left that could begin to, by the law of `core.links.TracePipe`."""
    first, after = lanes.kinds[kind, FIRST_STEP], lanes.kinds[kind, FIRST_STEP] + lanes.kinds[kind, STEPS]
    times_ms, upto, of_pipe = lanes.times_ms[first:after], lanes.upto[first:after], lanes.leaving[pipe]
    left = starts
    if starts > of_pipe[GONE_NS]:
        now_ms = -(-starts // NS_PER_MS)
        rounds = max(0, (now_ms - 1) // times_ms[-1])
        place = np.searchsorted(times_ms, now_ms - rounds * times_ms[-1])
        gone = rounds * upto[-1] + (upto[place - 1] if place else 0)
        of_pipe[GONE], of_pipe[ROOM] = max(of_pipe[GONE], gone), 0
    if size_bytes > of_pipe[ROOM]:
        packets = -(-(size_bytes - of_pipe[ROOM]) // OPPORTUNITY_BYTES)
        of_pipe[GONE] += packets
        of_pipe[ROOM] += packets * OPPORTUNITY_BYTES
        rounds, rest = (of_pipe[GONE] - 1) // upto[-1], (of_pipe[GONE] - 1) % upto[-1]
        left_ms = rounds * times_ms[-1] + times_ms[np.searchsorted(upto, rest, "right")]
        left = max(starts, left_ms * NS_PER_MS)
    of_pipe[ROOM] -= size_bytes
    of_pipe[GONE_NS] = left
    return left


@inlined
def carried(
    lanes: Lanes,
    lane: int,
    at: int,
    size_bytes: int,
    then: int,
) -> int:
    """When a message that crosses a lane by the law of `core.links.Lane` is taken in at its end, which takes `then`."""
    state, kinds, crossed, until = lanes.state, lanes.kinds, lanes.crossed, lanes.until
    kind, pipe = state[lane, KIND], state[lane, PIPE]
    free, jitter = state[pipe, FREE], kinds[kind, JITTER]
    if jitter and at >= free:
        drawn, delays = state[lane, DRAWN], kinds[kind, DELAYS]
        if delays:
            place = (first_delay(kinds[kind, CHANCE], lane, delays) + drawn) % delays
            state[lane, OFFSET] = lanes.off_ns[kinds[kind, FIRST_DELAY] + place]
        else:
            by = deviation(kinds[kind, LAW], kinds[kind, CHANCE], lane, drawn)
            state[lane, OFFSET] = np.int64(np.rint(jitter * by))
        state[lane, DRAWN] += 1
    if kinds[kind, STEPS]:
        left = _left_by_trace(lanes, kind, pipe, max(free, at), size_bytes)
    else:
        left = max(free, at) + np.int64(np.rint(size_bytes * lanes.ns_per_byte[kind]))
    last = max(state[lane, LAST], left + max(0, kinds[kind, LATENCY] + state[lane, OFFSET]))
    taken = max(state[lane, TAKEN], last + then)
    state[pipe, FREE] = left
    state[lane, LAST] = last
    state[lane, TAKEN] = taken
    if taken <= until:
        crossed[state[lane, REPORT], 0] += size_bytes
        crossed[state[lane, REPORT], 1] += 1
    return taken


@jit
def sensed(
    keys: Ints,
    first: int,
    last: int,
    bits: int,
    base: int,
    unused: Bag,
    rows: Rows,
    sources: Sources,
    devices: Devices,
    flows: Flows,
    lanes: Lanes,
    to_links: Bag,
    to_edges: Bag,
    ready: Bag,
) -> None:
    """Samples that fall due, in order, of the keys from `first` to `last`: sensed one after another on each device, to
    be decided there or sent to its site.

    A link that is a device's own carries them in that order; to one that is shared they come in that of all devices.
    """
    mask = (1 << bits) - 1
    for place in range(first, last):
        prefetch(sources, keys[min(place + 2 * AHEAD, last - 1)] & mask, 0)
        later = np.int64(sources[keys[min(place + AHEAD, last - 1)] & mask, OF_DEVICE])
        prefetch(devices, later, 0)
        prefetch(lanes.state, later, 0)
        source = keys[place] & mask
        due = base + (keys[place] >> bits)
        flow, device = np.int64(sources[source, OF_FLOW]), np.int64(sources[source, OF_DEVICE])
        where, seq = np.int64(sources[source, WHERE]), np.int64(sources[source, NEXT_SEQ])
        sources[source, NEXT_SEQ] = seq + 1
        group = devices[device, GROUP]
        unused[NEAR] -= 1
        slot = unused[FIRST + unused[NEAR]]
        for column in range(rows.shape[1]):
            rows[slot, column] = ABSENT
        rows[slot, GROUP] = group
        rows[slot, EDGE] = devices[device, EDGE]
        rows[slot, FLOW] = flow
        rows[slot, DEVICE] = device
        rows[slot, SEQ] = seq
        rows[slot, DECIDER] = where
        rows[slot, DUE] = due
        captured = max(devices[device, FREE], due + cost(flows, TIMER, group, rows, slot))
        rows[slot, CAPTURED] = captured
        capture = OWN_CAPTURE if where == ON_DEVICE else CAPTURE
        sent = captured + cost(flows, capture, group, rows, slot)
        devices[device, FREE] = sent
        rows[slot, AT] = sent
        if where == ON_DEVICE:
            rows[slot, SENT] = rows[slot, RECEIVED] = rows[slot, READY] = captured
            rows[slot, SIZE] = 0
            push(ready, slot)
            continue
        size = cost(flows, SIZE_DRAW, group, rows, slot)
        rows[slot, SENT] = sent
        rows[slot, SIZE] = size
        if lanes.kinds[lanes.state[device, KIND], SHARED]:
            push(to_links, slot)
        else:
            size += flows.up_bytes[flow, group]
            then = cost(flows, SITE_UP, group, rows, slot)
            rows[slot, AT] = carried(lanes, rows[slot, DEVICE], sent, size, then)
            push(to_edges, slot)


@jit
def sent_to_edges_together(
    slots: Ints,
    n: int,
    rows: Rows,
    flows: Flows,
    lanes: Lanes,
    to_edges: Bag,
) -> None:
    """What devices send across links that they share."""
    for place in range(n):
        prefetch(lanes.state, rows[slots[min(place + AHEAD, n - 1)], DEVICE], 0)
        slot = slots[place]
        group = rows[slot, GROUP]
        then = cost(flows, SITE_UP, group, rows, slot)
        size = rows[slot, SIZE] + flows.up_bytes[rows[slot, FLOW], group]
        at, device = rows[slot, AT], rows[slot, DEVICE]
        rows[slot, AT] = carried(lanes, device, at, size, then)
        push(to_edges, slot)


@jit
def decided_on_devices(decided: Bag, rows: Rows, heard: Ints, flows: Flows, done: Bag) -> None:
    """What devices have decided by themselves, and hand over in that order. heard: when the last one was, by server."""
    for place in range(FIRST, FIRST + decided[NEAR]):
        slot = decided[place]
        server = rows[slot, DEVICE] * len(flows.share) + rows[slot, FLOW]
        heard[server] = max(heard[server], rows[slot, AT] + cost(flows, HEAR, rows[slot, GROUP], rows, slot))
        rows[slot, REPLIED] = rows[slot, FINISHED]
        rows[slot, ARRIVED] = heard[server]
        rows[slot, REPLY_SIZE] = 0
        push(done, slot)
    decided[NEAR] = 0


@jit
def taken_in_at_edges(
    slots: Ints,
    n: int,
    rows: Rows,
    edge_group: Ints,
    free: Ints,
    flows: Flows,
    ready: Bag,
    to_cloud: Bag,
) -> None:
    """What arrives at edges: each takes it in one after another, to decide it or to pass it on, and may be busy with it
    for longer than it takes. free: by edge."""
    for place in range(n):
        slot = slots[place]
        edge = rows[slot, EDGE]
        group = edge_group[edge]
        start = max(free[edge], rows[slot, AT])
        if rows[slot, DECIDER] == AT_CLOUD:
            sent = start + cost(flows, PASS_ON, group, rows, slot)
            free[edge] = max(sent, start + cost(flows, RELAY, group, rows, slot))
            rows[slot, FORWARD_IN] = start
            rows[slot, AT] = rows[slot, FORWARD_OUT] = sent
            push(to_cloud, slot)
        else:
            taken = start + cost(flows, DECODE, group, rows, slot)
            free[edge] = max(taken, start + cost(flows, INTAKE, group, rows, slot))
            rows[slot, RECEIVED] = start
            rows[slot, AT] = rows[slot, READY] = taken
            push(ready, slot)


@jit
def sent_to_cloud(
    slots: Ints,
    n: int,
    rows: Rows,
    edge_group: Ints,
    flows: Flows,
    lanes: Lanes,
    to_cloud: Bag,
) -> None:
    """What edges pass on, across their links."""
    for place in range(n):
        slot = slots[place]
        edge, at = rows[slot, EDGE], rows[slot, AT]
        then = cost(flows, BACKHAUL_UP, edge_group[edge], rows, slot)
        flow = rows[slot, FLOW]
        output = flows.output_bytes[flow]
        size = (rows[slot, SIZE] if output < 0 else output) + flows.forward_bytes[flow]
        rows[slot, AT] = carried(lanes, edge, at, size, then)
        push(to_cloud, slot)


@jit
def taken_in_at_cloud(slots: Ints, n: int, rows: Rows, cloud_group: Ints, free: Ints, flows: Flows, ready: Bag) -> None:
    """What arrives at the cloud, which takes it in one after another. free: since when [1]."""
    group = cloud_group[0]
    for place in range(n):
        slot = slots[place]
        start = max(free[0], rows[slot, AT])
        taken = start + cost(flows, CLOUD_DECODE, group, rows, slot)
        free[0] = max(taken, start + cost(flows, CLOUD_INTAKE, group, rows, slot))
        rows[slot, RECEIVED] = start
        rows[slot, AT] = rows[slot, READY] = taken
        push(ready, slot)


@jit
def sent_to_edges(
    slots: Ints,
    n: int,
    rows: Rows,
    edge_group: Ints,
    free: Ints,
    flows: Flows,
    lanes: Lanes,
    to_devices: Bag,
) -> None:
    """What the cloud answers, across the links of edges; each takes answers in one after another. free: by edge."""
    for place in range(n):
        slot = slots[place]
        edge, at = rows[slot, EDGE], rows[slot, AT]
        group = edge_group[edge]
        reply = cost(flows, CLOUD_REPLY, rows[slot, GROUP], rows, slot)
        then = cost(flows, BACKHAUL_DOWN, group, rows, slot)
        size = reply + flows.answer_bytes[rows[slot, FLOW]]
        start = max(free[edge], carried(lanes, edge, at, size, then))
        free[edge] = start + cost(flows, HAND_BACK, group, rows, slot)
        rows[slot, REPLY_SIZE] = reply
        rows[slot, RETURN_IN] = start
        rows[slot, AT] = rows[slot, RETURN_OUT] = free[edge]
        push(to_devices, slot)


@jit
def sent_to_devices(
    slots: Ints,
    n: int,
    rows: Rows,
    flows: Flows,
    lanes: Lanes,
    done: Bag,
) -> None:
    """Decisions on their way to devices."""
    for place in range(n):
        prefetch(lanes.state, rows[slots[min(place + AHEAD, n - 1)], DEVICE], 0)
        slot = slots[place]
        group = rows[slot, GROUP]
        reply = rows[slot, REPLY_SIZE]
        if reply == ABSENT:
            reply = rows[slot, REPLY_SIZE] = cost(flows, REPLY_DRAW, group, rows, slot)
        then = cost(flows, SITE_DOWN if rows[slot, RETURN_IN] == ABSENT else BROUGHT_DOWN, group, rows, slot)
        size = reply + flows.down_bytes[rows[slot, FLOW], group]
        at, device = rows[slot, AT], rows[slot, DEVICE]
        rows[slot, ARRIVED] = carried(lanes, device, at, size, then)
        push(done, slot)


@jit
def handed_out(done: Bag, returned: Bag, rows: Rows, until: int, into: Rows) -> None:
    """Copy the messages that have come to their end; what would have arrived after `until` has not. into: its first
    rows are filled in, as many as are done."""
    for place in range(done[NEAR]):
        slot = done[FIRST + place]
        for column in range(rows.shape[1]):
            into[place, column] = rows[slot, column]
        if into[place, ARRIVED] > until:
            into[place, ARRIVED] = ABSENT
        push(returned, slot)
    done[NEAR] = 0
