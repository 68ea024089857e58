"""The decided samples of a run as arrays, to calibrate simulations by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from edgebench.clock import NS_PER_MS
from edgebench.core.samples import OF_HEAD
from edgebench.results.chunks import ABSENT, TIMES, SampleChunk, chunks_of
from edgebench.results.disturbance import Disturbance, disturbance_of
from edgebench.results.rundir import StoredRun, record_batches
from edgebench.results.sample_times import SampleTimes
from edgebench.simulation.service_times import Ints
from edgebench.topology.deployment import NodePlan

_APART_NS = NS_PER_MS
"""Samples that are due so soon before or after others may wait for each other wherever they come to."""

K = TypeVar("K")
Bools = NDArray[np.bool_]

ENOUGH = 20
"""Fewer of something say less of it than what can be told of it otherwise."""


@dataclass(frozen=True)
class Samples:
    """The decided samples of a workload. columns: stamps in ns, `batch`, `size_bytes`, `reply_bytes`, `replied` (when
    it was this one's turn to be answered), numbers of nodes: `node`, `decider` [sample], and of a chain's first stage
    those of `OF_HEAD`. calm: nothing foreign disturbed it; apart: nothing else was due right before or behind it
    [sample]."""

    columns: Mapping[str, Ints]
    calm: Bools
    apart: Bools

    def __getitem__(self, name: str) -> Ints:
        return self.columns[name]

    def __len__(self) -> int:
        return len(self.calm)

    def select(self, which: Bools | Ints) -> Samples:
        """Some of them."""
        columns = {name: column[which] for name, column in self.columns.items()}
        return Samples(columns, self.calm[which], self.apart[which])


def samples_of(run: StoredRun) -> dict[str, Samples]:
    """By workload, of those with decisions."""
    deployment, times = run.deployment, SampleTimes(run.deployment, run.observations)
    disturbance = disturbance_of(run.observations)
    numbers = {name: number for number, name in enumerate(deployment.nodes)}
    parts: dict[str, list[tuple[dict[str, Ints], Bools]]] = {}
    for batch in record_batches(run.path, (*TIMES, "reply_bytes", "replied_ns")):
        for workload, chunk in chunks_of([batch], deployment.workloads):
            of_workload = np.array(batch["workload"].to_pylist()) == workload
            beside = {name: _ints(batch[name])[of_workload] for name in ("reply_bytes", "replied_ns")}
            columns = _columns(times.on_server(chunk), chunk, beside, numbers)
            decided = chunk.decided & (columns["decider"] != ABSENT)
            parts.setdefault(workload, []).append((columns, decided))
    found = {
        name: {column: np.concatenate([columns[column] for columns, _ in several]) for column in several[0][0]}
        for name, several in parts.items()
    }
    apart = _sensed_apart(found)
    return {
        name: Samples(columns, _calm(columns, disturbance), apart[name]).select(
            np.concatenate([decided for _, decided in parts[name]])
        )
        for name, columns in found.items()
    }


def _calm(columns: Mapping[str, Ints], disturbance: Disturbance | None) -> Bools:
    due_ns = columns["scheduled_ns"]
    if disturbance is None:
        return np.ones(len(due_ns), bool)
    return ~disturbance.touches(due_ns, np.maximum(columns["arrived_ns"], due_ns))


def _sensed_apart(found: Mapping[str, Mapping[str, Ints]]) -> dict[str, Bools]:
    """By workload, of which samples no other was due right before or behind them, but for one of each workload on the
    same device at that very time, as all its workloads with that load have [sample]."""
    if not found:
        return {}
    lengths = [len(columns["node"]) for columns in found.values()]
    workload = np.repeat(np.arange(len(found)), lengths)
    due_ns, node = (np.concatenate([columns[name] for columns in found.values()]) for name in ("scheduled_ns", "node"))
    order = np.lexsort((workload, node, due_ns))
    due_ns, node, workload = due_ns[order], node[order], workload[order]
    begins = (np.diff(due_ns, prepend=ABSENT) != 0) | (np.diff(node, prepend=ABSENT) != 0)
    first = np.flatnonzero(begins)
    alone = ~np.logical_or.reduceat(~begins & (np.diff(workload, prepend=ABSENT) == 0), first)
    far = np.diff(due_ns[first], prepend=-2 * _APART_NS) > _APART_NS
    alone &= far & np.append(far[1:], True)
    apart = np.empty(len(order), bool)
    apart[order] = alone[np.cumsum(begins) - 1]
    return dict(zip(found, np.split(apart, np.cumsum(lengths)[:-1]), strict=True))


def _columns(
    chunk: SampleChunk, own: SampleChunk, beside: Mapping[str, Ints], numbers: Mapping[str, int]
) -> dict[str, Ints]:
    """own: with the stamps as they were written down."""
    found = {**chunk.ns, "batch": chunk.ints["batch"], "size_bytes": chunk.ints["size_bytes"]}
    of_head = {name: chunk.ns.get(name, chunk.ints.get(name)) for name in OF_HEAD}
    nothing = np.full(len(chunk), ABSENT, np.int64)
    found |= {name: nothing if column is None else column for name, column in of_head.items()}
    found["reply_bytes"] = beside["reply_bytes"]
    found["replied"] = chunk.ns["finished_ns"] + beside["replied_ns"] - own.ns["finished_ns"]
    for name in ("node", "decider"):
        of_name = np.array([*(numbers.get(node, ABSENT) for node in chunk.names[name]), ABSENT], np.int64)
        found[name] = of_name[chunk.codes[name]]
    return found


def _ints(column: Any) -> Ints:
    filled: Ints = column.fill_null(ABSENT).to_numpy(zero_copy_only=False).astype(np.int64)
    return filled


def processes(nodes: Sequence[NodePlan]) -> Ints:
    """Which process each node is in [node]: the devices of a group at a site share one."""
    agents: dict[tuple[str, str | None], int] = {}
    return np.array(
        [
            agents.setdefault((node.group, node.parent), number) if node.tier == "device" else number
            for number, node in enumerate(nodes)
        ]
    )


def runs(key: Ints, order: Ints) -> list[Ints]:
    """The places of each key, by an order in which those of one are together."""
    if not len(order):
        return []
    return np.split(order, np.flatnonzero(np.diff(key[order])) + 1)


def add(into: dict[K, list[Ints]], key: K, values: Ints) -> None:
    """Keep some values, if there are any."""
    if len(values):
        into.setdefault(key, []).append(values)


class Apart(Generic[K]):
    """What things take, by what they are: as told by samples that were apart, and by all where too few of many were."""

    def __init__(self) -> None:
        self._apart: dict[K, list[Ints]] = {}
        self._all: dict[K, list[Ints]] = {}

    def add(self, key: K, values: Ints, are_apart: Bools) -> None:
        """Of some samples."""
        add(self._apart, key, values[are_apart])
        add(self._all, key, values)

    def told(self, into: dict[K, list[Ints]]) -> set[K]:
        """Keep what is told. What of it is told by all samples, as too few were apart."""
        counts = {key: (sum(map(len, self._apart.get(key, ()))), sum(map(len, of))) for key, of in self._all.items()}
        crowded = {key for key, (apart, n) in counts.items() if apart < min(ENOUGH, n)}
        for key, values in self._all.items():
            into.setdefault(key, []).extend(values if key in crowded else self._apart[key])
        return crowded
