"""The samples of a workload by when they were due, in slots of a run's time: what blocks of it are drawn from."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from edgebench.results.chunks import HOPS, SampleChunk, ms
from edgebench.results.values import Ints

_KEPT_BITS = 8
_SHIFT = 52 - _KEPT_BITS
_CODE_BITS = 20
_OPEN_KEYS = 1 << 20
LATENCY = "latency"


class SlotHistogram:
    """How often each slot has each value, to 0.2 % of it: values are told apart by the first bits of their floats.

    Takes as much memory as there are different values in a slot, however many samples they are of.
    """

    def __init__(self, slots: int) -> None:
        self.sum_ms = np.zeros(slots)
        self.count = np.zeros(slots)
        self._slots = slots
        self._keys: list[Ints] = []
        self._times: list[Ints] = []

    def update(self, slot: Ints, ns: Ints) -> None:
        """Take in values [n] of slots [n]."""
        self.sum_ms += np.bincount(slot, weights=ms(ns), minlength=self._slots)
        self.count += np.bincount(slot, minlength=self._slots)
        codes = np.sign(ns) * (np.abs(ns).astype(np.float64).view(np.int64) >> _SHIFT)
        keys, times = np.unique((slot << _CODE_BITS) + codes + (1 << (_CODE_BITS - 1)), return_counts=True)
        self._keys.append(keys)
        self._times.append(times)
        if sum(map(len, self._keys)) > _OPEN_KEYS:
            self._join()

    def table(self) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
        """How often [slot, value] each value has come, and the values in ms [value], in order."""
        self._join()
        keys, times = self._keys[0], self._times[0]
        codes, place = np.unique((keys & ((1 << _CODE_BITS) - 1)) - (1 << (_CODE_BITS - 1)), return_inverse=True)
        counts = np.zeros((self._slots, len(codes)), np.float32)
        counts[keys >> _CODE_BITS, place] = times
        size = np.abs(codes)
        low, high = ((each << _SHIFT).view(np.float64) for each in (size, size + 1))
        return counts, ms(np.sign(codes) * np.floor((low + high) / 2))

    def _join(self) -> None:
        keys, place = np.unique(np.concatenate(self._keys), return_inverse=True)
        times = np.bincount(place, weights=np.concatenate(self._times), minlength=len(keys)).astype(np.int64)
        self._keys, self._times = [keys], [times]


class SlotFold:
    """One workload. scheduled, decided, late: by when they were due [slot]; arrived: by when the decision came [slot].

    spread: of the latency, and of each hop.
    """

    def __init__(self, start_ns: int, slot_ns: float, slots: int, deadline_ms: float | None) -> None:
        self.slot_s = slot_ns / 1e9
        self.scheduled, self.decided, self.late, self.arrived = (np.zeros(slots) for _ in range(4))
        self.spread = {name: SlotHistogram(slots) for name in (LATENCY, *HOPS)}
        self._start_ns, self._slot_ns, self._slots = start_ns, slot_ns, slots
        self._deadline_ms = deadline_ms

    def update(self, chunk: SampleChunk) -> None:
        """Take in a chunk of this workload."""
        due = self._slot(chunk.ns["scheduled_ns"])
        decided = due[chunk.decided]
        self.scheduled += self._counts(due)
        self.decided += self._counts(decided)
        self.arrived += self._counts(self._slot(chunk.ns["arrived_ns"][chunk.decided]))
        if self._deadline_ms is not None:
            self.late += self._counts(decided[ms(chunk.latency_ns) > self._deadline_ms])
        for name, ns in {LATENCY: chunk.latency_ns, **chunk.hops_ns}.items():
            if name not in self.spread:  # of the first stage of a chain
                self.spread[name] = SlotHistogram(self._slots)
            self.spread[name].update(decided, ns)

    def _slot(self, at_ns: Ints) -> Ints:
        slot: Ints = ((at_ns - self._start_ns) / self._slot_ns).astype(np.int64).clip(0, self._slots - 1)
        return slot

    def _counts(self, slot: Ints) -> NDArray[np.int64]:
        return np.bincount(slot, minlength=self._slots)


def without_gaps(totals: NDArray[np.float64], counts: NDArray[np.float64]) -> NDArray[np.float64]:
    """The mean of each slot [slot]; that of all where a slot has nothing."""
    mean = totals.sum() / counts.sum()
    found = np.full(len(totals), mean)
    np.divide(totals, counts, out=found, where=counts > 0)
    return found


def slots_filled(counts: Iterable[float]) -> int:
    """How many slots have anything."""
    return sum(count > 0 for count in counts)
