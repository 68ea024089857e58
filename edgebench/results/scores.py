"""Outputs and labels of a workload's decisions, for the metrics that need them all at once."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from edgebench.results.chunks import ABSENT, Bools, Floats, SampleChunk, check_lengths
from edgebench.results.values import Ints

MOST_DECISIONS = 1 << 20
MOST_BYTES = 128_000_000
"""So many decisions of one workload are kept, of so many bytes of outputs and labels; of a run with more an even share.
The chance error of a metric of half a million is some 0.001."""


class Scored(NamedTuple):
    """keys, bins: int [n]; outputs: float32 [n, output]; labels: float32 [n, label]."""

    keys: Ints
    bins: Ints
    outputs: Floats
    labels: Floats

    def __len__(self) -> int:
        return len(self.keys)

    @property
    def n_bytes(self) -> int:
        """What they take."""
        return sum(each.nbytes for each in self)

    def take(self, which: Bools | Ints) -> Scored:
        """Those of them, or in that order."""
        return Scored(self.keys[which], self.bins[which], self.outputs[which], self.labels[which])


class Scores:
    """The decisions of a workload whose label is known, by the model that made them.

    Of too many an even share is kept: those whose key has a hash with so many zero bits at its end, as many as it
    takes. Which these are depends neither on chunks nor on their order.
    """

    def __init__(self, most_decisions: int = MOST_DECISIONS, most_bytes: int = MOST_BYTES) -> None:
        self.known: Counter[str] = Counter()
        """By digest, how many decisions have a label that is known, kept or not."""
        self._kept: defaultdict[str, list[Scored]] = defaultdict(list)
        self._most_decisions = most_decisions
        self._most_bytes = most_bytes
        self._zero_bits = 0

    def update(self, chunk: SampleChunk, keys: Ints, bins: Ints) -> None:
        """Take in a chunk. keys, bins: [sample]. Raises EdgebenchError where vectors differ in length."""
        which = chunk.scored
        outputs, labels = chunk.outputs_and_labels()
        found = Scored(keys[which], bins[which].astype(np.int32), outputs, labels)
        codes = chunk.codes["digest"][which]
        for code in np.unique(codes).tolist():
            digest = "" if code == ABSENT else chunk.names["digest"][code]
            mine = found.take(codes == code)
            self.known[digest] += len(mine)
            self._keep(digest, mine)
        self._thin_out()

    def merge(self, other: Scores) -> None:
        """Take in those of another."""
        self.known.update(other.known)
        if other._zero_bits > self._zero_bits:
            self._share(other._zero_bits)
        for digest, parts in other._kept.items():
            for part in parts:
                self._keep(digest, part)
        self._thin_out()

    def of(self, digest: str | None = None) -> Scored:
        """What is kept of one model's decisions, or of all; ordered by key."""
        parts = list(self._all()) if digest is None else self._kept.get(digest, [])
        if not parts:
            none, nothing = np.zeros(0, np.int64), np.zeros((0, 1), np.float32)
            return Scored(none, none, nothing, nothing)
        for name in ("outputs", "labels"):
            lengths = [getattr(part, name).shape[1] for part in parts]
            check_lengths(min(lengths), max(lengths), name)
        whole = Scored(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))
        return whole.take(np.argsort(whole.keys, kind="stable"))

    def _keep(self, digest: str, part: Scored) -> None:
        shared = part.take(_ends_with_zeros(part.keys, self._zero_bits)) if self._zero_bits else part
        if len(shared):
            self._kept[digest].append(shared)

    def _thin_out(self) -> None:
        while self._too_many():
            self._share(self._zero_bits + 1)

    def _too_many(self) -> bool:
        n_bytes = sum(part.n_bytes for part in self._all())
        return n_bytes > self._most_bytes or sum(map(len, self._all())) > self._most_decisions

    def _share(self, zero_bits: int) -> None:
        self._zero_bits = zero_bits
        kept, self._kept = self._kept, defaultdict(list)
        for digest, parts in kept.items():
            for part in parts:
                self._keep(digest, part)

    def _all(self) -> Iterable[Scored]:
        return (part for parts in self._kept.values() for part in parts)


def _ends_with_zeros(keys: Ints, bits: int) -> Bools:
    """Whose hash has so many zero bits at its end. Source: SplitMix64, Steele et al. 2014."""
    z = keys.astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    z ^= z >> np.uint64(31)
    return np.asarray(z & np.uint64((1 << bits) - 1) == 0, bool)
