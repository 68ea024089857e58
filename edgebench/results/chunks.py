"""Samples of one workload as NumPy columns, a chunk of a run at a time, and where the time of each went."""

from __future__ import annotations

import itertools
from collections.abc import Container, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgebench.clock import NS_PER_MS
from edgebench.core.samples import MOST_INCARNATIONS, OF_HEAD
from edgebench.errors import EdgebenchError
from edgebench.results.observations import Observations
from edgebench.results.sample_figures import Latency
from edgebench.results.values import Ints, Values

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
BY_DEVICE = ("scheduled_ns", "captured_ns", "sent_ns", "arrived_ns", "taken_ns")
BY_EDGE = ("forward_in_ns", "forward_out_ns", "return_in_ns", "return_out_ns")
BY_HEAD = OF_HEAD[:3]
BY_DECIDER = ("received_ns", "ready_ns", "started_ns", "finished_ns")
"""Whose clock makes which stamp. BY_HEAD: whoever's has the first stage of a chain, the device or its edge; columns
only of a workload that is one."""
HOPS = tuple(_BY_STAMP.values())
FORWARDING = ("edge_forward", "backhaul_up", "backhaul_down", "edge_return")
"""Hops of what the cloud decides; 0 for all else."""
HEAD_HOPS = ("head_decode", "head_queue", "head_infer")
"""Hops of the first stage of a chain, before `edge_forward` or, on a device, before it has sent what that gave; there
are none of any other workload."""
_BOUNDARIES = ("scheduled_ns", *_BY_STAMP)
_WAY_BACK = ("return_in_ns", "return_out_ns")
_WAY_THERE = [name for name in reversed(_BOUNDARIES) if name not in _WAY_BACK]
_BETWEEN = list(itertools.pairwise(_BOUNDARIES))
_INSTEAD = [(name, later) for later, name in itertools.pairwise(_WAY_THERE)]
_INSTEAD += [("return_in_ns", "finished_ns"), ("return_out_ns", "return_in_ns")]
"""A stamp, and the one that it falls together with where it is absent."""
_STAMPS = (*_BOUNDARIES, "captured_ns", "taken_ns")
_INTS = ("seq", "incarnation", "batch", "size_bytes")
NEEDED = (*_STAMPS, *_INTS, "node", "workload", "decider", "digest", "label", "output", *OF_HEAD)
"""What of `records.parquet` the figures are made of."""
TIMES = tuple(name for name in NEEDED if name not in ("label", "output"))
"""What of it tells when things happened: it is read much faster."""

Bools = NDArray[np.bool_]
Floats = NDArray[np.float32]
_SEQ_BITS = 34
_KEY_BITS = _SEQ_BITS + (MOST_INCARNATIONS - 1).bit_length()


@dataclass(frozen=True)
class Crossed:
    """Of the stamps of some samples, by their names.

    machine: the number of the one that made them [sample]. bound_ns: how far at most they are from the truth, on the
    server's clock [sample]. own_ns: of those of the device, by its own clock [sample].
    """

    machine: Mapping[str, Ints]
    bound_ns: Mapping[str, Ints]
    own_ns: Mapping[str, Ints]

    def select(self, which: Bools) -> Crossed:
        """As in `SampleChunk`."""
        return Crossed(
            *({name: of[which] for name, of in each.items()} for each in (self.machine, self.bound_ns, self.own_ns))
        )


@dataclass(frozen=True)
class SampleChunk:
    """Some samples of one workload.

    ns: name of a stamp -> int64 [sample] on the server's clock, `ABSENT` where there is none. ints: likewise seq,
    incarnation, batch, size_bytes; both hold `OF_HEAD` where there are chains. codes: of node, decider, digest [sample]
    into `names`, `ABSENT` where there is none.
    outputs, labels: pyarrow lists of float32 [sample]. crossed: what is not known of the stamps, where they are of
    several machines. head_on_device: it is a chain of which devices have the first stage.
    """

    ns: Mapping[str, Ints]
    ints: Mapping[str, Ints]
    codes: Mapping[str, Ints]
    names: Mapping[str, tuple[str, ...]]
    outputs: Any
    labels: Any
    crossed: Crossed | None = None
    head_on_device: bool = False

    def __len__(self) -> int:
        return len(self.ns["scheduled_ns"])

    def select(self, which: Bools) -> SampleChunk:
        """The samples of `which` [sample]: a figure of some samples is folded from these."""
        import pyarrow as pa

        mask = pa.array(which)
        return replace(
            self,
            ns={name: column[which] for name, column in self.ns.items()},
            ints={name: column[which] for name, column in self.ints.items()},
            codes={name: column[which] for name, column in self.codes.items()},
            outputs=self.outputs.filter(mask),
            labels=self.labels.filter(mask),
            crossed=None if self.crossed is None else self.crossed.select(which),
        )

    def is_of(self, column: str, name: str) -> Bools:
        """Whose node, decider or digest has that name [sample]."""
        names = self.names[column]
        return self.codes[column] == (names.index(name) if name in names else ABSENT - 1)

    def count(self, column: str, which: Bools | None = None) -> dict[str, int]:
        """How many of the samples (of `which` [sample]) have each node, decider or digest; `""`: those without."""
        codes = self.codes[column] if which is None else self.codes[column][which]
        times = np.bincount(codes - ABSENT, minlength=1).tolist()
        return {name: n for name, n in zip(("", *self.names[column]), times, strict=False) if n}

    def keys(self, places: Mapping[str, int]) -> Ints:
        """A number for each sample that no other of its workload has [sample]; places: node -> its number."""
        place = np.array([places.get(name, ABSENT) for name in self.names["node"]], np.int64)
        if not len(self):
            return np.zeros(0, np.int64)
        count = (self.ints["incarnation"] << _SEQ_BITS) | self.ints["seq"]
        return (place[self.codes["node"]] << _KEY_BITS) | count

    def own_ns(self, name: str) -> Ints:
        """A stamp of the device by its own clock [sample]: what lies between two of one device, whatever their samples,
        is known without a bound."""
        return self.ns[name] if self.crossed is None else self.crossed.own_ns[name]

    @cached_property
    def decided(self) -> Bools:
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
    def age_ns(self) -> Ints:
        """How old what each sample that was seen live holds was when that was sensed [seen live]."""
        live = self.ns["taken_ns"] != ABSENT
        return (self.ns["captured_ns"] - self.ns["taken_ns"])[live]

    @cached_property
    def hops_ns(self) -> dict[str, Ints]:
        """The latency of each decided sample by hop [decided], in the order of `HOPS`; they add up to it.

        A sample that is decided where it is sensed has no uplink: a stamp that is absent falls together with the next,
        on the way back with the one before. In a chain those of the first stage come besides.
        """
        stamps = self._boundaries(self.ns)
        found = {hop: stamps[end] - stamps[begin] for (begin, end), hop in zip(_BETWEEN, HOPS, strict=True)}
        of_head = [self.ns[name][self.decided] for name in BY_HEAD if name in self.ns]
        if of_head and (of_head[0] != ABSENT).any():
            at_head = [of_head[0] if self.head_on_device else stamps["forward_in_ns"], *of_head]
            for hop, (begun, ended) in zip(HEAD_HOPS, itertools.pairwise(at_head), strict=True):
                found[hop] = np.where(ended == ABSENT, 0, ended - begun)
            took_ns = found["head_decode"] + found["head_queue"] + found["head_infer"]
            if self.head_on_device:  # what has been made of a sample is on its way as soon as it has
                there = of_head[0] != ABSENT
                sensed_ns = np.where(there, of_head[0] - stamps["scheduled_ns"], found["sense"])
                found["uplink"] = found["uplink"] + found["sense"] - sensed_ns - took_ns
                found["sense"] = sensed_ns
            else:
                found["edge_forward"] = found["edge_forward"] - took_ns
        return found

    @cached_property
    def hop_bounds_ns(self) -> dict[str, int]:
        """Of each hop that leads from a machine to another, how far at most the truth is from `hops_ns`."""
        if self.crossed is None:
            return {}
        machine, bound_ns = self._boundaries(self.crossed.machine), self._boundaries(self.crossed.bound_ns)
        found = {}
        for (begin, end), hop in zip(_BETWEEN, HOPS, strict=True):
            crossing = machine[begin] != machine[end]
            if crossing.any():
                found[hop] = int((bound_ns[begin] + bound_ns[end])[crossing].max())
        return found

    def _boundaries(self, columns: Mapping[str, Ints]) -> dict[str, Ints]:
        """What columns say of the ends of the hops [decided]; a stamp that is absent takes that of another."""
        found = {name: columns[name][self.decided] for name in _BOUNDARIES}
        for name, other in _INSTEAD:
            found[name] = np.where(self.ns[name][self.decided] == ABSENT, found[other], found[name])
        return found

    @cached_property
    def finite(self) -> Bools:
        """Whose output is nothing but finite numbers, or is absent [sample]."""
        import pyarrow.compute as pc

        present = pc.is_valid(self.outputs).to_numpy(zero_copy_only=False)
        found = np.ones(len(self), bool)
        found[present] = np.isfinite(matrix(self.outputs.drop_null(), "outputs")).all(axis=1)
        return found

    @cached_property
    def scored(self) -> Bools:
        """Which are decided and have a label that is known [sample]."""
        import pyarrow.compute as pc

        known = pc.and_(pc.is_valid(self.outputs), pc.is_valid(self.labels)).to_numpy(zero_copy_only=False)
        return np.asarray(known & self.decided, bool)

    def outputs_and_labels(self) -> tuple[Floats, Floats]:
        """Outputs [scored, output] and labels [scored, label]. Raises EdgebenchError where they differ in length."""
        import pyarrow as pa

        mask = pa.array(self.scored)
        return matrix(self.outputs.filter(mask), "outputs"), matrix(self.labels.filter(mask), "labels")


def chunks_of(
    batches: Iterable[Any], workloads: Iterable[str], heads_on_devices: Container[str] = ()
) -> Iterator[tuple[str, SampleChunk]]:
    """Each of the batches of records (pyarrow, with `NEEDED`) by workload; only workloads with samples in it.
    heads_on_devices: those that are chains of which devices have the first stage.

    Stamps are as they were written down. With `TIMES` alone, all outputs and labels are absent.
    """
    wanted = set(workloads)
    for batch in batches:
        workload, names = _codes(batch["workload"])
        whole = _chunk(batch)
        for code in np.unique(workload).tolist():
            if code != ABSENT and names[code] in wanted:
                chunk = whole.select(workload == code)
                yield names[code], replace(chunk, head_on_device=names[code] in heads_on_devices)


def decides_at_random(workload: str, observations: Observations) -> bool:
    """Whether a fake model decided: what it gives means nothing, and may not even be of the task's form."""
    return any(event.manifest.runtime == "fake" for event in observations.models if event.workload == workload)


def latency_of(ns: Values) -> Latency | None:
    """The spread of latencies; None of none."""
    if not len(ns):
        return None
    p50, p90, p99, most = ns.percentiles(0.5, 0.9, 0.99, 1.0)
    return Latency(mean=round(ms(ns.mean), 6), p50=ms(p50), p90=ms(p90), p99=ms(p99), max=ms(most))


def ms(ns: Any) -> Any:
    """Turn ns into ms."""
    return ns / NS_PER_MS


def matrix(vectors: Any, what: str) -> Floats:
    """Lists of one length as [n, length]. Raises EdgebenchError where they are not."""
    if not len(vectors):
        return np.zeros((0, 1), np.float32)
    flat = vectors.flatten().to_numpy(zero_copy_only=False).astype(np.float32, copy=False)
    lengths = vectors.value_lengths().to_numpy(zero_copy_only=False)
    check_lengths(int(lengths.min()), int(lengths.max()), what)
    return flat.reshape(len(vectors), int(lengths[0]))


def check_lengths(least: int, most: int, what: str) -> None:
    """Raise EdgebenchError where vectors of one workload differ in length."""
    if least != most:
        raise EdgebenchError(f"records: {what} of one workload have {least} to {most} values")


def _chunk(batch: Any) -> SampleChunk:
    import pyarrow as pa

    coded = {name: _codes(batch[name]) for name in ("node", "decider", "digest")}
    outputs, labels = (
        batch[name] if name in batch.schema.names else pa.nulls(len(batch)) for name in ("output", "label")
    )
    chained = [name for name in OF_HEAD if name in batch.schema.names and batch[name].null_count < len(batch)]
    return SampleChunk(
        ns={name: _ints(batch[name]) for name in (*_STAMPS, *(name for name in chained if name in BY_HEAD))},
        ints={name: _ints(batch[name]) for name in (*_INTS, *(name for name in chained if name not in BY_HEAD))},
        codes={name: codes for name, (codes, _) in coded.items()},
        names={name: names for name, (_, names) in coded.items()},
        outputs=outputs,
        labels=labels,
    )


def _ints(column: Any) -> Ints:
    filled: Ints = column.fill_null(ABSENT).to_numpy(zero_copy_only=False).astype(np.int64, copy=False)
    return filled


def _codes(column: Any) -> tuple[Ints, tuple[str, ...]]:
    import pyarrow as pa

    array = column if pa.types.is_dictionary(column.type) else column.dictionary_encode()
    indices = array.indices.fill_null(ABSENT).to_numpy(zero_copy_only=False).astype(np.int64)
    return indices, tuple(array.dictionary.to_pylist())
