"""When things happened in a run, in narrow bins of time that charts join to wider ones."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from edgebench.clock import NS_PER_S
from edgebench.results import stats
from edgebench.results.chunks import SampleChunk
from edgebench.results.observations import Observations
from edgebench.results.values import Ints, Mergeable, Values, count
from edgebench.topology.deployment import Deployment

_MOST_BINS = 100
_SAMPLES_A_BIN = 25


@dataclass(frozen=True)
class Axis:
    """The time of a run: its start, what of it the charts show, and the width of a narrow bin, a power of ten."""

    start_ns: int
    span_s: float
    narrow_ns: int

    def bins(self, at_ns: Ints) -> Ints:
        """The narrow bin of each time [n]; the first is 0, also of what lies before by as much as clocks are off."""
        found: Ints = np.maximum((at_ns - self.start_ns) // self.narrow_ns, 0)
        return found

    def wider(self, count: int) -> tuple[float, int]:
        """The width in s of bins that suit so many samples, and how many narrow ones make one."""
        width_s = bin_width_s(count, self.span_s)
        return width_s, max(1, round(width_s * NS_PER_S / self.narrow_ns))


def axis_of(deployment: Deployment, observations: Observations) -> Axis:
    """From the start of the streams, or of the command where they never started, to their end."""
    start_ns, end_ns = observations.started_ns, observations.ended_ns
    span_s = deployment.duration_s
    if start_ns is None:
        start_ns = observations.command_started_ns
    if end_ns is not None:
        span_s = round((end_ns - start_ns) / NS_PER_S, 6)
    return Axis(start_ns, span_s, max(1, round(_magnitude(_least_s(span_s, _MOST_BINS)) * NS_PER_S)))


def bin_width_s(count: int, span_s: float) -> float:
    """A round width of time bins that hold some 25 samples each, of which there are at most 100."""
    least = _least_s(span_s, max(1, min(_MOST_BINS, count // _SAMPLES_A_BIN)))
    magnitude = _magnitude(least)
    return next(step * magnitude for step in (1.0, 2.0, 5.0, 10.0) if step * magnitude >= least * (1 - 1e-9))


def _least_s(span_s: float, bins: int) -> float:
    return max(span_s, 1e-3) / bins


def _magnitude(width_s: float) -> float:
    return float(10.0 ** math.floor(math.log10(width_s)))


def since_start_s(observations: Observations, at_ns: int) -> float:
    """Time from the start of the streams in s; from the start of the command where they never started."""
    start_ns = observations.started_ns if observations.started_ns is not None else observations.command_started_ns
    return round((at_ns - start_ns) / NS_PER_S, 6)


@dataclass
class Timeline(Mergeable):
    """Latency by the time that samples were due, what was lost by the same, and what arrived, by narrow bin."""

    PARAMETERS: ClassVar = ("axis",)
    axis: Axis
    latency_ns: Values = field(default_factory=Values)
    due: Values = field(default_factory=Values)
    lost: Counter[int] = field(default_factory=Counter)
    arrived: Counter[int] = field(default_factory=Counter)

    def update(self, chunk: SampleChunk) -> None:
        """Take in a chunk."""
        due = self.axis.bins(chunk.ns["scheduled_ns"])
        self.latency_ns.update(chunk.latency_ns)
        self.due.update(due[chunk.decided])
        count(self.lost, due[~chunk.decided])
        count(self.arrived, self.axis.bins(chunk.ns["arrived_ns"][chunk.decided]))

    def percentiles_by(self, narrow: int, shares: tuple[float, ...]) -> dict[int, tuple[float, ...]]:
        """Bin of so many narrow ones -> percentiles of the latencies in it, for those that have any."""
        bins = self.due.array // narrow
        order = np.argsort(bins, kind="stable")
        found, starts = np.unique(bins[order], return_index=True)
        parts = np.split(self.latency_ns.array[order], starts[1:]) if len(found) else []
        return {place: stats.percentiles(part, shares) for place, part in zip(found.tolist(), parts, strict=True)}


def by(counts: Counter[int], narrow: int) -> Counter[int]:
    """Counts by bins of so many narrow ones."""
    wider: Counter[int] = Counter()
    for each, times in counts.items():
        wider[each // narrow] += times
    return wider
