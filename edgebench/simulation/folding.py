"""The figures of a simulation as its samples come, for one that is too large to write them down."""

from __future__ import annotations

from collections import Counter

import numpy as np
from numpy.typing import NDArray

from edgebench.clock import NS_PER_MS
from edgebench.core.tallies import Tally
from edgebench.results.chunks import HEAD_HOPS, HOPS
from edgebench.results.observations import Observations
from edgebench.results.run_fold import RunFold, run_fold
from edgebench.results.timeline import axis_of
from edgebench.results.tolerances import slip_limit_ms
from edgebench.results.workload_fold import WorkloadFold, bound_ms
from edgebench.simulation.binned import COARSE_BITS, FINE_BITS, Binned, BinnedTimeline, bin_of, bins
from edgebench.simulation.columns import (
    ABSENT,
    ARRIVED,
    BATCH,
    CAPTURED,
    COLUMNS,
    DUE,
    FINISHED,
    FLOW,
    FORWARD_IN,
    FORWARD_OUT,
    HEAD_BATCH,
    HEAD_FINISHED,
    HEAD_READY,
    HEAD_STARTED,
    NEVER,
    READY,
    RECEIVED,
    RETURN_IN,
    RETURN_OUT,
    SENT,
    SIZE,
    STARTED,
    Ints,
    Rows,
)
from edgebench.simulation.jit import inlined, making
from edgebench.topology.deployment import Deployment

_LATENCY, _SLIP, _HOPS = 0, 1, 2
_OF_HEAD = _HOPS + len(HOPS)
_FORWARD = _HOPS + HOPS.index("edge_forward")
_KINDS = _OF_HEAD + len(HEAD_HOPS)
_LATE, _OVER, _SLIPPED, _BYTES, _BATCHES, _BATCH_SUM, _HEAD_BATCHES, _HEAD_BATCH_SUM, _SCALARS = range(9)


class Fold:
    """Of all workloads, so far."""

    def __init__(self, deployment: Deployment, observations: Observations) -> None:
        """observations: of which the times of the streams are known."""
        self._deployment = deployment
        self._axis = axis_of(deployment, observations)
        plans = list(deployment.workloads.values())
        n = len(plans)
        spans = int(self._axis.span_s * 1e9) // self._axis.narrow_ns + 1
        self._limits = np.array(
            [
                [_ns(plan.deadline_ms), _ns(bound_ms(plan)), slip_limit_ms(plan.deadline_ms) * NS_PER_MS]
                for plan in plans
            ]
        )
        self._counts = np.zeros((n, _KINDS, bins(FINE_BITS)), np.int64)
        self._sums = np.zeros((n, _KINDS), np.int64)
        self._totals = [[0] * _KINDS for _ in plans]
        self._least = np.full((n, _KINDS), NEVER, np.int64)
        self._most = np.full((n, _KINDS), ABSENT, np.int64)
        self._scalars = np.zeros((n, _SCALARS), np.int64)
        self._edges = np.tile(np.array([NEVER, ABSENT, NEVER, ABSENT], np.int64), (n, 1))
        """The least and the greatest due time and time of arrival."""
        self._by_time = np.zeros((n, spans, bins(COARSE_BITS)), np.int32)
        self._lost, self._arrived = np.zeros((2, n, spans), np.int64)

    def take(self, rows: Rows) -> None:
        """Take in samples that have come to their end."""
        _fold(
            rows,
            self._axis.narrow_ns,
            self._limits,
            self._counts,
            self._sums,
            self._least,
            self._most,
            self._scalars,
            self._edges,
            self._by_time,
            self._lost,
            self._arrived,
        )
        for totals, sums in zip(self._totals, self._sums.tolist(), strict=True):
            for kind, total in enumerate(sums):
                totals[kind] += total  # of a long run they are more than int64 holds
        self._sums[:] = 0

    def whole(self, observations: Observations) -> RunFold:
        """All that figures and charts are made of. observations: with the counts of all nodes."""
        fold = run_fold(self._deployment, observations)
        for number, each in enumerate(fold.workloads.values()):
            self._fill(each, number, observations.tallies)
        return fold

    def _fill(self, fold: WorkloadFold, number: int, tallies: dict[str, dict[str, Tally]]) -> None:
        name = fold.plan.name
        fold.rows = Counter({node: tallies.get(node, {}).get(name, Tally()).scheduled for node in fold.plan.sources})
        latency = self._binned(number, _LATENCY)
        counts, lost, arrived = self._by_time[number], self._lost[number], self._arrived[number]
        fold.timeline = BinnedTimeline(self._axis, latency, counts, lost, arrived)
        fold.slip_ns = self._binned(number, _SLIP)
        fold.hops_ns = {hop: self._binned(number, _HOPS + place) for place, hop in enumerate(HOPS)}
        late, over, slipped, size_bytes, batches, batch_sum, *of_head = self._scalars[number].tolist()
        fold.late, fold.over, fold.slipped = late, over, slipped
        fold.size_bytes, fold.batches, fold.batch_sum = size_bytes, batches, batch_sum
        fold.head_batches, fold.head_batch_sum = of_head
        if fold.head_batches:
            fold.hops_ns |= {hop: self._binned(number, _OF_HEAD + place) for place, hop in enumerate(HEAD_HOPS)}
        if fold.decided:
            fold.by_digest[""] = fold.decided
        for place, extremes in ((0, fold.scheduled_ns), (2, fold.arrived_ns)):
            known = self._edges[number, place : place + 2]
            extremes.update(known[known != ABSENT] if known[1] != ABSENT else known[:0])

    def _binned(self, number: int, kind: int) -> Binned:
        at = number, kind
        return Binned(self._counts[at], self._totals[number][kind], int(self._least[at]), int(self._most[at]))


def _ns(limit_ms: float | None) -> float:
    return np.inf if limit_ms is None else limit_ms * NS_PER_MS


@making
def _fold(
    rows: Rows,
    narrow_ns: int,
    limits: NDArray[np.float64],
    counts: Ints,
    sums: Ints,
    least: Ints,
    most: Ints,
    scalars: Ints,
    edges: Ints,
    by_time: NDArray[np.int32],
    lost: Ints,
    arrived: Ints,
) -> None:
    took = np.empty(_KINDS, np.int64)
    last = lost.shape[1] - 1
    for number in range(len(rows)):
        flow, due, end = rows[number, FLOW], rows[number, DUE], rows[number, ARRIVED]
        place = min(due // narrow_ns, last)
        scalars[flow, _BYTES] += rows[number, SIZE]
        edges[flow, 0] = min(edges[flow, 0], due)
        edges[flow, 1] = max(edges[flow, 1], due)
        first, kinds = _SLIP, _SLIP + 1
        took[_SLIP] = rows[number, CAPTURED] - due
        if took[_SLIP] > limits[flow, 2]:
            scalars[flow, _SLIPPED] += 1
        if end == ABSENT:
            lost[flow, place] += 1
        else:
            _hops(rows, number, took)
            first, kinds = 0, _OF_HEAD
            if rows.shape[1] > COLUMNS and rows[number, HEAD_READY] != ABSENT:
                _hops_of_head(rows, number, took)
                kinds = _KINDS
                scalars[flow, _HEAD_BATCHES] += 1
                scalars[flow, _HEAD_BATCH_SUM] += rows[number, HEAD_BATCH]
            if took[_LATENCY] > limits[flow, 0]:
                scalars[flow, _LATE] += 1
            if took[_LATENCY] > limits[flow, 1]:
                scalars[flow, _OVER] += 1
            scalars[flow, _BATCHES] += 1
            scalars[flow, _BATCH_SUM] += rows[number, BATCH]
            by_time[flow, place, bin_of(took[_LATENCY], COARSE_BITS)] += 1
            arrived[flow, min(end // narrow_ns, last)] += 1
            edges[flow, 2] = min(edges[flow, 2], end)
            edges[flow, 3] = max(edges[flow, 3], end)
        for kind in range(first, kinds):
            value = took[kind]
            counts[flow, kind, bin_of(value, FINE_BITS)] += 1
            sums[flow, kind] += value
            least[flow, kind] = min(least[flow, kind], value)
            most[flow, kind] = max(most[flow, kind], value)


@inlined
def _hops(rows: Rows, number: int, took: Ints) -> None:
    """Latency and hops of a decided sample, as `results.chunks` has them."""
    at = rows[number, DUE]
    place = _HOPS
    for column in (SENT, FORWARD_IN, FORWARD_OUT, RECEIVED, READY, STARTED, FINISHED, RETURN_IN, RETURN_OUT, ARRIVED):
        stamp = rows[number, column]
        if stamp == ABSENT:
            # On the way there it falls together with the next stamp, on the way back with the one before.
            stamp = at if column in (RETURN_IN, RETURN_OUT) else rows[number, RECEIVED]
        took[place] = stamp - at
        at = stamp
        place += 1
    took[_LATENCY] = rows[number, ARRIVED] - rows[number, DUE]


@inlined
def _hops_of_head(rows: Rows, number: int, took: Ints) -> None:
    """What the first stage of a chain did before its edge passed on what that gave."""
    at, place = rows[number, FORWARD_IN], _OF_HEAD
    for column in (HEAD_READY, HEAD_STARTED, HEAD_FINISHED):
        took[place] = rows[number, column] - at
        took[_FORWARD] -= took[place]
        at = rows[number, column]
        place += 1
