"""How a later model came to the nodes that decide, and whether the decisions went on meanwhile."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from edgebench.clock import NS_PER_S
from edgebench.fabric.records import ModelEvent, Swap
from edgebench.results import stats
from edgebench.results.chunks import ABSENT, SampleChunk, ms
from edgebench.results.figures import NodeSwap, RolloutFigures
from edgebench.results.observations import Observations
from edgebench.results.values import Extremes, Mergeable, Values

AROUND_NS = NS_PER_S // 2


@dataclass
class SwapAround(Mergeable):
    """What went on around one node's change to a later model, and the rest of the time.

    finished: when its batches were done. waited_*: in the queue, of what arrived near the change, and of the rest.
    """

    PARAMETERS: ClassVar = ("swap",)
    swap: Swap
    finished_ns: Values = field(default_factory=Values)
    waited_near_ns: Extremes = field(default_factory=Extremes)
    waited_else_ns: Values = field(default_factory=Values)
    lost: int = 0

    def update(self, chunk: SampleChunk) -> None:
        """Take in a chunk of the workload."""
        at_ns = self.swap.swapped_ns
        # Lost samples have no decider; those of the whole workload count.
        due_near = np.abs(chunk.ns["scheduled_ns"] - at_ns) <= AROUND_NS
        self.lost += int((due_near & ~chunk.decided).sum())
        finished, received = chunk.ns["finished_ns"], chunk.ns["received_ns"]
        mine = chunk.is_of("decider", self.swap.node) & (finished != ABSENT) & (received != ABSENT)
        # Relative to the change they fit in fewer bytes, and of a batch one is enough.
        self.finished_ns.update(np.unique(finished[mine]) - at_ns)
        waited = (chunk.ns["started_ns"] - received)[mine]
        near = np.abs(received[mine] - at_ns) <= AROUND_NS
        self.waited_near_ns.update(waited[near])
        self.waited_else_ns.update(waited[~near])

    def figures(self, start_ns: int) -> NodeSwap:
        """The figures."""
        finished = np.unique(self.finished_ns.array)
        pauses = np.diff(finished)
        near = (finished[1:] >= -AROUND_NS) & (finished[:-1] <= AROUND_NS)
        most_ns = self.waited_near_ns.most
        return NodeSwap(
            fetched_s=_s(self.swap.fetched_ns - start_ns),
            swapped_s=_s(self.swap.swapped_ns - start_ns),
            pause_ms=_max_ms(pauses[near]),
            usual_pause_p99_ms=_p99_ms(pauses[~near]),
            usual_pause_max_ms=_max_ms(pauses[~near]),
            waited_ms=None if most_ns is None else float(ms(most_ns)),
            usual_waited_p99_ms=_p99_ms(self.waited_else_ns.array),
            lost=self.lost,
        )


def swaps_around(workload: str, observations: Observations) -> dict[str, SwapAround]:
    """Of each node that took on a later model of a workload; the key says which node and model."""
    later = {event.manifest.digest for event in _later(observations) if event.workload == workload}
    swaps = [swap for swap in observations.swaps if swap.workload == workload and swap.digest in later]
    return {_key(swap): SwapAround(swap) for swap in swaps}


def rollouts_of(observations: Observations, around: Mapping[str, Mapping[str, SwapAround]]) -> list[RolloutFigures]:
    """Every model announced after the streams of its workload had started, in the order of announcement.

    around: workload -> as of `swaps_around`.
    """
    start_ns = observations.started_ns or 0
    return [
        RolloutFigures(
            workload=event.workload,
            digest=event.manifest.digest,
            ready_s=_s(event.ready_ns - start_ns),
            announced_s=_s((event.announced_ns or 0) - start_ns),
            nodes={
                each.swap.node: each.figures(start_ns)
                for each in sorted(
                    around[event.workload].values(), key=lambda each: (each.swap.swapped_ns, each.swap.node)
                )
                if each.swap.digest == event.manifest.digest
            },
        )
        for event in _later(observations)
        if event.workload in around
    ]


def _later(observations: Observations) -> list[ModelEvent]:
    start_ns = observations.started_ns
    if start_ns is None:
        return []
    later = [event for event in observations.models if event.announced_ns is not None and event.announced_ns > start_ns]
    return sorted(later, key=lambda event: event.announced_ns or 0)


def _key(swap: Swap) -> str:
    return f"{swap.node} {swap.digest} {swap.swapped_ns}"


def _max_ms(ns: NDArray[np.integer[Any]]) -> float | None:
    return float(ms(int(ns.max()))) if len(ns) else None


def _p99_ms(ns: NDArray[np.integer[Any]]) -> float | None:
    return float(ms(stats.percentiles(ns, (0.99,))[0])) if len(ns) else None


def _s(ns: int) -> float:
    return round(ns / NS_PER_S, 6)
