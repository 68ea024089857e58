"""A model and its queue: when which samples are decided together, by the law of `core.batching.Batcher`."""

from __future__ import annotations

from edgebench.simulation.columns import (
    ABSENT,
    ANSWER,
    AT,
    AT_CLOUD,
    AT_EDGE,
    BATCH,
    BUSY,
    CASCADE,
    CHAIN,
    CLOUD_ANSWER,
    CLOUD_INFER,
    CLOUD_WAKE,
    COUNT,
    DECIDER,
    DEVICE,
    DROPPED,
    EDGE,
    FAR,
    FINISHED,
    FIRST,
    FLOW,
    FORWARD_IN,
    FORWARD_OUT,
    GATHERED,
    HEAD,
    HEAD_BATCH,
    HEAD_FINISHED,
    HEAD_READY,
    HEAD_STARTED,
    INFER,
    LOOK,
    NEAR,
    NEVER,
    NEXT,
    ON_DEVICE,
    PASS_ON,
    PLACE,
    READY,
    RECEIVED,
    REPLIED,
    SEQ,
    STARTED,
    STREAM,
    TAIL,
    UNSURE,
    WAITING,
    WAKE,
    Bag,
    Flows,
    Ints,
    Rows,
    Servers,
)
from edgebench.simulation.draws import cost, draw, picked, push
from edgebench.simulation.jit import inlined, jit


@inlined
def _decide(
    servers: Servers,
    station: int,
    flow: int,
    group: int,
    tier: int,
    most: int,
    wait: int,
    flows: Flows,
    rows: Rows,
    decided: Bag,
    passed_on: Bag,
) -> int:
    """Decide a batch of those that wait at a server, do the first stage of a chain for it, or wait for more. 0, or what
    `served` gives where no service time is known.

    Who is decided leaves when those of its batch that came before it have been answered; the server is free when all
    have.
    """
    infer, answer = (CLOUD_INFER, CLOUD_ANSWER) if tier == AT_CLOUD else (INFER, ANSWER)
    at_once = servers[station, BUSY]
    servers[station, BUSY] = 0
    if servers[station, WAITING] == 0:
        servers[station, LOOK] = NEVER
        return 0
    now = servers[station, LOOK]
    n = min(servers[station, WAITING], most)
    slot = servers[station, HEAD]
    if n < most and wait and rows[slot, RECEIVED] + wait > now:
        servers[station, GATHERED] = n
        servers[station, LOOK] = rows[slot, RECEIVED] + wait
        return 0
    count = flows.batches[flow, group, at_once, n, COUNT]
    if count == 0:
        return -(((flow * flows.batches.shape[1]) + group) * 1024 + n)
    place, stream = flows.batches[flow, group, at_once, n, PLACE], flows.drawn[flow, group, infer, STREAM]
    finished = now + picked(flows, count, place, stream, rows[slot, DEVICE], rows[slot, SEQ])
    free = finished
    for _ in range(n):
        rows[slot, STARTED] = now
        rows[slot, FINISHED] = finished
        rows[slot, BATCH] = n
        rows[slot, AT] = free
        goes_on = False
        if tier == AT_EDGE and rows[slot, DECIDER] == CASCADE:
            chance = draw(flows.drawn[flow, group, UNSURE, STREAM], rows[slot, DEVICE], rows[slot, SEQ])
            goes_on = chance < flows.share[flow]
        elif tier == AT_EDGE and rows[slot, DECIDER] == CHAIN:
            goes_on = True
            rows[slot, HEAD_READY] = rows[slot, READY]
            rows[slot, HEAD_STARTED] = now
            rows[slot, HEAD_FINISHED] = finished
            rows[slot, HEAD_BATCH] = n
        if goes_on:
            rows[slot, FORWARD_IN] = rows[slot, RECEIVED]
            rows[slot, FORWARD_OUT] = free
            push(passed_on, slot)
        else:
            rows[slot, DECIDER] = tier
            rows[slot, REPLIED] = free
            push(decided, slot)
        free += cost(flows, PASS_ON if goes_on else answer, group, rows, slot)
        slot = rows[slot, NEXT]
    servers[station, LOOK] = free
    servers[station, BUSY] = 1
    servers[station, GATHERED] = 0
    servers[station, HEAD] = slot
    servers[station, WAITING] -= n
    return 0


@inlined
def _oldest(servers: Servers, station: int, rows: Rows) -> int:
    """Take the first that waits and belongs to no batch yet out of a queue."""
    gathered = servers[station, GATHERED]
    servers[station, WAITING] -= 1
    if gathered == 0:
        dropped = servers[station, HEAD]
        servers[station, HEAD] = rows[dropped, NEXT]
        return dropped
    before = servers[station, HEAD]
    for _ in range(gathered - 1):
        before = rows[before, NEXT]
    dropped = rows[before, NEXT]
    rows[before, NEXT] = rows[dropped, NEXT]
    if dropped == servers[station, TAIL]:
        servers[station, TAIL] = before
    return dropped


@inlined
def _queue(servers: Servers, station: int, slot: int, bound: int, drops_newest: int, rows: Rows) -> int:
    """Put a message at the end of a queue. Where that is full one has to go: which, else `ABSENT`."""
    dropped = ABSENT
    if servers[station, WAITING] - servers[station, GATHERED] >= bound:
        dropped = slot if drops_newest else _oldest(servers, station, rows)
        rows[dropped, BATCH] = DROPPED
        if dropped == slot:
            return dropped
    if servers[station, WAITING] == 0:
        servers[station, HEAD] = slot
    else:
        rows[servers[station, TAIL], NEXT] = slot
    servers[station, TAIL] = slot
    servers[station, WAITING] += 1
    return dropped


@jit
def served(
    servers: Servers,
    ready: Bag,
    until: int,
    end: int,
    tier: int,
    group_of: Ints,
    flows: Flows,
    rows: Rows,
    decided: Bag,
    passed_on: Bag,
    done: Bag,
) -> int:
    """What is ready at the nodes of a tier, in order for each of their servers, and all that is due there before
    `until`. What is ready only after `end` is put off until the next window.

    servers: of each node those of all workloads; group_of: of each node. passed_on: what a cascade is unsure of, and
    what the first stage of a chain gives. 0, or the workload, group and size of a batch whose service time is not
    known, below 0: -((workload * groups + group) * 1024 + size).
    """
    n_flows, half = len(flows.share), (len(ready) - FIRST) // 2
    wake = CLOUD_WAKE if tier == AT_CLOUD else WAKE
    n_ready, left = ready[NEAR], FIRST
    for place in range(n_ready + len(servers)):
        if place < n_ready:
            slot = ready[FIRST + place]
            at = rows[slot, AT]
            if at >= end:
                ready[FIRST + half + ready[FAR]] = slot
                ready[FAR] += 1
                continue
            if at >= until:
                ready[left] = slot
                left += 1
                continue
            flow = rows[slot, FLOW]
            node = rows[slot, DEVICE] if tier == ON_DEVICE else (0 if tier == AT_CLOUD else rows[slot, EDGE])
            station = node * n_flows + flow
        else:  # nothing comes any more
            slot, at, station = ABSENT, until, place - n_ready
            if servers[station, LOOK] >= until:
                continue
            flow, node = station % n_flows, station // n_flows
        group = group_of[node]
        most, wait = (1, 0) if tier == ON_DEVICE else (flows.max_batch[flow], flows.max_wait[flow])
        while servers[station, LOOK] < at:
            lacks = _decide(servers, station, flow, group, tier, most, wait, flows, rows, decided, passed_on)
            if lacks:
                return lacks
        if slot == ABSENT:
            continue
        if not servers[station, BUSY]:
            look = at + cost(flows, wake, group, rows, slot)
            servers[station, LOOK] = min(servers[station, LOOK], look)
        dropped = _queue(servers, station, slot, flows.bound[flow], flows.drops_newest[flow], rows)
        if dropped != ABSENT:
            push(done, dropped)
    ready[NEAR] = left - FIRST
    return 0
