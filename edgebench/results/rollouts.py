"""How a later model came to the nodes that decide, and whether the decisions went on meanwhile."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edgebench.clock import NS_PER_S
from edgebench.fabric.records import Observations, Swap
from edgebench.results import stats
from edgebench.results.figures import NodeSwap, RolloutFigures
from edgebench.results.samples import ABSENT, Samples, ms

AROUND_NS = NS_PER_S // 2


def rollouts_of(observations: Observations, samples: dict[str, Samples]) -> list[RolloutFigures]:
    """Every model announced after the streams of its workload had started, in the order of announcement."""
    start_ns = observations.started_ns
    if start_ns is None:
        return []
    later = [event for event in observations.models if event.announced_ns is not None and event.announced_ns > start_ns]
    found = []
    for event in sorted(later, key=lambda event: event.announced_ns or 0):
        if event.workload not in samples or event.announced_ns is None:
            continue
        swaps = [
            swap
            for swap in observations.swaps
            if swap.workload == event.workload and swap.digest == event.manifest.digest
        ]
        found.append(
            RolloutFigures(
                workload=event.workload,
                digest=event.manifest.digest,
                ready_s=_s(event.ready_ns - start_ns),
                announced_s=_s(event.announced_ns - start_ns),
                nodes={
                    swap.node: _node_swap(swap, start_ns, samples[event.workload])
                    for swap in sorted(swaps, key=lambda swap: (swap.swapped_ns, swap.node))
                },
            )
        )
    return found


def _node_swap(swap: Swap, start_ns: int, samples: Samples) -> NodeSwap:
    mine = _decided_by(swap.node, samples)
    finished = np.unique(samples.ns["finished_ns"][mine])
    pauses = np.diff(finished)
    near = (finished[1:] >= swap.swapped_ns - AROUND_NS) & (finished[:-1] <= swap.swapped_ns + AROUND_NS)
    received = samples.ns["received_ns"][mine]
    waited = samples.ns["started_ns"][mine] - received
    waited_near = np.abs(received - swap.swapped_ns) <= AROUND_NS
    return NodeSwap(
        fetched_s=_s(swap.fetched_ns - start_ns),
        swapped_s=_s(swap.swapped_ns - start_ns),
        pause_ms=_max_ms(pauses[near]),
        usual_pause_p99_ms=_p99_ms(pauses[~near]),
        usual_pause_max_ms=_max_ms(pauses[~near]),
        waited_ms=_max_ms(waited[waited_near]),
        usual_waited_p99_ms=_p99_ms(waited[~waited_near]),
        lost=_lost_near(swap, samples),
    )


def _decided_by(node: str, samples: Samples) -> NDArray[np.bool_]:
    if node not in samples.deciders:
        return np.zeros(len(samples), bool)
    by_node = samples.decider == samples.deciders.index(node)
    return by_node & (samples.ns["finished_ns"] != ABSENT) & (samples.ns["received_ns"] != ABSENT)


def _lost_near(swap: Swap, samples: Samples) -> int:
    """Lost samples have no decider; those of the whole workload count."""
    due_near = np.abs(samples.ns["scheduled_ns"] - swap.swapped_ns) <= AROUND_NS
    return int((due_near & ~samples.decided).sum())


def _max_ms(ns: NDArray[np.int64]) -> float | None:
    return float(ms(ns.max())) if len(ns) else None


def _p99_ms(ns: NDArray[np.int64]) -> float | None:
    return float(ms(stats.percentiles(ns, (0.99,))[0])) if len(ns) else None


def _s(ns: int) -> float:
    return round(ns / NS_PER_S, 6)
