"""What is folded of one workload's samples."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from edgebench.fabric.records import RoundRecord
from edgebench.results.beside import BesideRounds, beside_rounds
from edgebench.results.cascades import CascadeFold, cascade_in
from edgebench.results.chunks import ABSENT, HOPS, SampleChunk, ms
from edgebench.results.disturbance import Disturbance, UndisturbedFold
from edgebench.results.fault_steps import Standstills
from edgebench.results.observations import Observations
from edgebench.results.rollouts import SwapAround, swaps_around
from edgebench.results.scores import Scores
from edgebench.results.timeline import Axis, Timeline
from edgebench.results.tolerances import slip_limit_ms
from edgebench.results.values import Extremes, Mergeable, Values
from edgebench.topology.deployment import Deployment, WorkloadPlan
from edgebench.topology.model import Server

_NO_INTS = np.zeros(0, np.int64)


@dataclass
class WorkloadFold(Mergeable):
    """One workload.

    places: node -> its number. rows: by node. later_rows: of nodes that were started again, by node and incarnation,
    the first left out. by_decider, begun_ns: decisions of what is placed online, and when those of a node with a model
    were begun. by_digest, not_finite: decisions by the model that made them, and those of which an output is no finite
    number. over: decisions beyond the bound of `bound_ms`. hop_bounds_ns: how far off those hops may be that lead from
    a machine to another.
    """

    PARAMETERS: ClassVar = ("plan", "places", "standstills")
    plan: WorkloadPlan
    places: Mapping[str, int]
    standstills: Standstills
    timeline: Timeline
    cascade: CascadeFold | None
    beside: BesideRounds | None
    undisturbed: UndisturbedFold | None
    swaps: dict[str, SwapAround]
    rows: Counter[str] = field(default_factory=Counter)
    later_rows: Counter[tuple[str, int]] = field(default_factory=Counter)
    late: int = 0
    over: int = 0
    slipped: int = 0
    size_bytes: int = 0
    batches: int = 0
    batch_sum: int = 0
    head_batches: int = 0
    head_batch_sum: int = 0
    by_decider: Counter[str] = field(default_factory=Counter)
    begun_ns: dict[tuple[str, str], Extremes] = field(default_factory=dict)
    by_digest: Counter[str] = field(default_factory=Counter)
    not_finite: Counter[str] = field(default_factory=Counter)
    scheduled_ns: Extremes = field(default_factory=Extremes)
    arrived_ns: Extremes = field(default_factory=Extremes)
    slip_ns: Values = field(default_factory=Values)
    age_ns: Values = field(default_factory=Values)
    hops_ns: dict[str, Values] = field(default_factory=lambda: {hop: Values() for hop in HOPS})
    hop_bounds_ns: dict[str, Extremes] = field(default_factory=dict)
    scores: Scores = field(default_factory=Scores)

    def update(self, chunk: SampleChunk) -> None:
        """Take in a chunk of this workload."""
        self.rows.update(chunk.count("node"))
        incarnation = chunk.ints["incarnation"]
        for life in np.unique(incarnation[incarnation > 0]).tolist():
            self.later_rows.update(
                {(node, life): count for node, count in chunk.count("node", incarnation == life).items()}
            )
        if self.plan.online is not None:
            self._update_online(chunk)
        self.by_digest.update(chunk.count("digest", chunk.decided))
        self.not_finite.update(chunk.count("digest", chunk.decided & ~chunk.finite))
        latency_ms = ms(chunk.latency_ns)
        self.late += _beyond(latency_ms, self.plan.deadline_ms)
        self.over += _beyond(latency_ms, bound_ms(self.plan))
        # A device that a fault has stand still is late as was wanted.
        slip_ns = chunk.slip_ns[~self.standstills.touched(chunk)]
        self.slipped += _beyond(ms(slip_ns), slip_limit_ms(self.plan.deadline_ms))
        self.slip_ns.update(slip_ns)
        self.age_ns.update(chunk.age_ns)
        batch = chunk.ints["batch"]
        self.batches += int((batch != ABSENT).sum())
        self.batch_sum += int(batch[batch != ABSENT].sum())
        head_batch = chunk.ints.get("head_batch", _NO_INTS)
        self.head_batches += int((head_batch != ABSENT).sum())
        self.head_batch_sum += int(head_batch[head_batch != ABSENT].sum())
        self.size_bytes += int(chunk.ints["size_bytes"].sum())
        self.scheduled_ns.update(chunk.ns["scheduled_ns"])
        self.arrived_ns.update(chunk.ns["arrived_ns"][chunk.decided])
        for hop, took_ns in chunk.hops_ns.items():
            self.hops_ns.setdefault(hop, Values()).update(took_ns)
        for hop, bound_ns in chunk.hop_bounds_ns.items():
            self.hop_bounds_ns.setdefault(hop, Extremes()).update(np.array([bound_ns]))
        self.scores.update(chunk, chunk.keys(self.places), self.timeline.axis.bins(chunk.ns["scheduled_ns"]))
        for part in (self.timeline, self.cascade, self.beside, self.undisturbed, *self.swaps.values()):
            if part is not None:
                part.update(chunk)

    def _update_online(self, chunk: SampleChunk) -> None:
        by_decider = chunk.count("decider", chunk.decided)
        self.by_decider.update(by_decider)
        for decider in by_decider:
            mine = chunk.decided & chunk.is_of("decider", decider)
            for digest in chunk.count("digest", mine):
                begun_ns = chunk.ns["started_ns"][mine & chunk.is_of("digest", digest)]
                self.begun_ns.setdefault((decider, digest), Extremes()).update(begun_ns)

    @property
    def samples(self) -> int:
        """How many there are in the records."""
        return self.rows.total()

    @property
    def latency_ns(self) -> Values:
        """Of each decided sample."""
        return self.timeline.latency_ns

    @property
    def decided(self) -> int:
        """Samples that got their decision back."""
        return len(self.latency_ns)


def workload_fold(
    plan: WorkloadPlan,
    deployment: Deployment,
    observations: Observations,
    rounds: Sequence[RoundRecord],
    axis: Axis,
    disturbance: Disturbance | None,
) -> WorkloadFold:
    """Of no samples yet."""
    return WorkloadFold(
        plan=plan,
        places={node: place for place, node in enumerate(deployment.nodes)},
        standstills=Standstills(observations.faults),
        timeline=Timeline(axis),
        cascade=cascade_in(plan.name, deployment, observations),
        beside=beside_rounds(plan.name, deployment, rounds),
        undisturbed=None if disturbance is None or disturbance.is_none else UndisturbedFold(disturbance),
        swaps=swaps_around(plan.name, observations),
    )


def bound_ms(plan: WorkloadPlan) -> float | None:
    """What a p99 is to keep: the bound of a server load, else the deadline."""
    return plan.load.p99_ms if isinstance(plan.load, Server) and plan.paced_by is None else plan.deadline_ms


def _beyond(found_ms: NDArray[np.float64], limit_ms: float | None) -> int:
    return 0 if limit_ms is None else int((found_ms > limit_ms).sum())
