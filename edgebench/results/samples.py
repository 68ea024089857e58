"""The rows of one workload as NumPy columns, and where the time of each went."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgebench.clock import NS_PER_MS
from edgebench.errors import EdgebenchError
from edgebench.fabric.records import Observations
from edgebench.results import stats
from edgebench.results.figures import Latency

ABSENT = -1
"""A stamp that a sample never reached; the monotonic clock has no negative times."""

_BY_STAMP = {
    "sent_ns": "sense",
    "forward_in_ns": "uplink",
    "forward_out_ns": "edge_forward",
    "received_ns": "backhaul_up",
    "ready_ns": "decode",
    "started_ns": "queue",
    "finished_ns": "infer",
    "return_in_ns": "backhaul_down",
    "return_out_ns": "edge_return",
    "arrived_ns": "downlink",
}
"""The hop that ends with each stamp, in the order in which a sample passes them."""
HOPS = tuple(_BY_STAMP.values())
FORWARDING = ("edge_forward", "backhaul_up", "backhaul_down", "edge_return")
"""Hops of what the cloud decides; 0 for all else."""
_BOUNDARIES = ("scheduled_ns", *_BY_STAMP)
_WAY_BACK = ("return_in_ns", "return_out_ns")
_WAY_THERE = [name for name in reversed(_BOUNDARIES) if name not in _WAY_BACK]
_INSTEAD = [(name, later) for later, name in itertools.pairwise(_WAY_THERE)]
_INSTEAD += [("return_in_ns", "finished_ns"), ("return_out_ns", "return_in_ns")]
"""A stamp, and the one that it falls together with where it is absent."""
_STAMPS = (*_BOUNDARIES, "captured_ns")

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Samples:
    """The samples of one workload, in the order of the records.

    ns: name of a stamp -> int64 [sample], `ABSENT` where there is none. node, decider, digest: codes [sample] into
    `nodes`, `deciders` and `digests`, `ABSENT` where there is none. seq, batch, size_bytes: int64 [sample].
    """

    ns: dict[str, Ints]
    node: Ints
    nodes: tuple[str, ...]
    decider: Ints
    deciders: tuple[str, ...]
    digest: Ints
    digests: tuple[str, ...]
    seq: Ints
    batch: Ints
    size_bytes: Ints
    outputs: Any
    labels: Any

    def __len__(self) -> int:
        return len(self.node)

    @cached_property
    def decided(self) -> NDArray[np.bool_]:
        """Which samples got their decision back [sample]."""
        return self.ns["arrived_ns"] != ABSENT

    @cached_property
    def latency_ns(self) -> Ints:
        """From the due time of each decided sample to the arrival of its decision [decided]."""
        return (self.ns["arrived_ns"] - self.ns["scheduled_ns"])[self.decided]

    @cached_property
    def slip_ns(self) -> Ints:
        """How late each sample was taken [sample]."""
        return self.ns["captured_ns"] - self.ns["scheduled_ns"]

    @cached_property
    def hops_ns(self) -> Ints:
        """The latency of each decided sample by hop [decided, hop], in the order of `HOPS`; rows add up to it.

        A sample that is decided where it is sensed has no uplink: a stamp that is absent falls together with the next,
        on the way back with the one before.
        """
        stamps = {name: self.ns[name][self.decided] for name in _BOUNDARIES}
        for name, other in _INSTEAD:
            stamps[name] = np.where(stamps[name] == ABSENT, stamps[other], stamps[name])
        passed = np.stack(list(stamps.values()), axis=1)
        return passed[:, 1:] - passed[:, :-1]

    def scored(self, which: NDArray[np.bool_]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Outputs [n, output] and labels [n, label] of those decided samples of `which` [sample] whose label is known.

        Raises EdgebenchError where vectors of one workload differ in length.
        """
        import pyarrow as pa
        import pyarrow.compute as pc

        known = pc.and_(pc.is_valid(self.outputs), pc.is_valid(self.labels))
        chosen = pc.and_(known, pa.array(which & self.decided))
        return _matrix(self.outputs.filter(chosen), "outputs"), _matrix(self.labels.filter(chosen), "labels")


def samples_by_workload(records: Any, workloads: tuple[str, ...]) -> dict[str, Samples]:
    """Split the records of a run (a pyarrow table) by workload; one without rows has empty columns."""
    import pyarrow.compute as pc

    table = records.unify_dictionaries().combine_chunks()
    return {name: _samples(table.filter(pc.equal(table["workload"].cast("string"), name))) for name in workloads}


def decides_at_random(workload: str, observations: Observations) -> bool:
    """Whether a fake model decided: what it gives means nothing, and may not even be of the task's form."""
    return any(event.manifest.runtime == "fake" for event in observations.models if event.workload == workload)


def latency_of(ns: Ints) -> Latency | None:
    """The spread of latencies [sample]; None of none."""
    if not len(ns):
        return None
    p50, p90, p99 = stats.percentiles(ns, (0.5, 0.9, 0.99))
    mean = round(float(ms(ns.mean())), 6)
    return Latency(mean=mean, p50=ms(p50), p90=ms(p90), p99=ms(p99), max=ms(float(ns.max())))


def ms(ns: Any) -> Any:
    """Turn ns into ms."""
    return ns / NS_PER_MS


def _samples(table: Any) -> Samples:
    node, nodes = _codes(table["node"])
    decider, deciders = _codes(table["decider"])
    digest, digests = _codes(table["digest"])
    return Samples(
        ns={name: _ints(table[name]) for name in _STAMPS},
        node=node,
        nodes=nodes,
        decider=decider,
        deciders=deciders,
        digest=digest,
        digests=digests,
        seq=_ints(table["seq"]),
        batch=_ints(table["batch"]),
        size_bytes=_ints(table["size_bytes"]),
        outputs=table["output"].combine_chunks(),
        labels=table["label"].combine_chunks(),
    )


def _ints(column: Any) -> Ints:
    filled: Ints = column.fill_null(ABSENT).to_numpy().astype(np.int64, copy=False)
    return filled


def _codes(column: Any) -> tuple[Ints, tuple[str, ...]]:
    import pyarrow as pa

    array = column.combine_chunks()
    if isinstance(array, pa.ChunkedArray):
        array = array.chunk(0) if array.num_chunks else pa.array([], column.type)
    if not pa.types.is_dictionary(array.type):
        array = array.dictionary_encode()
    indices = array.indices.fill_null(ABSENT).to_numpy(zero_copy_only=False).astype(np.int64)
    return indices, tuple(array.dictionary.to_pylist())


def _matrix(vectors: Any, what: str) -> NDArray[np.float32]:
    if not len(vectors):
        return np.zeros((0, 1), np.float32)
    flat = vectors.flatten().to_numpy(zero_copy_only=False).astype(np.float32, copy=False)
    width = len(vectors[0])
    lengths = vectors.value_lengths().to_numpy(zero_copy_only=False)
    if (lengths != width).any():
        raise EdgebenchError(f"records: {what} of one workload have {lengths.min()} to {lengths.max()} values")
    return flat.reshape(-1, width)
