"""What runtimes with a few fixed batch sizes share: which sizes to use for n samples, padding, and warming up."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgebench.clock import NS_PER_S, now_ns
from edgebench.inference.runtime import cheapest_split, useful_sizes
from edgebench.inference.spec import Manifest

_TIMED_CALLS = 10

RunBatch = Callable[[int, NDArray[Any]], NDArray[np.float32]]
"""Outputs [batch, output] of exactly `batch` samples [batch, *shape]."""


class BatchPlanner:
    """Decides any number of samples with batches of the manifest's sizes, in the split that is fastest on this machine.

    A batch size is timed (the fastest of a few calls) when it is first wanted, so what is never used costs no memory.
    Sizes to choose from are timed in turns: whatever else the machine does then hinders each of them alike.
    """

    def __init__(self, manifest: Manifest, run: RunBatch) -> None:
        self._run = run
        self._spec = manifest.input
        self._sizes = manifest.batches
        self._cost_s: dict[int, float] = {}
        self._splits: dict[int, tuple[int, ...]] = {}

    def infer(self, x: NDArray[Any]) -> NDArray[np.float32]:
        """See `Runtime.infer`."""
        n = len(x)
        split = self._splits.get(n) or self._plan(n)
        if len(split) == 1 and split[0] == n:
            return self._run(n, x)
        parts = []
        start = 0
        for size in split:
            part = x[start : start + size]
            start += len(part)
            parts.append(self._run(size, part if len(part) == size else self._padded(part, size))[: len(part)])
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def _plan(self, n: int) -> tuple[int, ...]:
        if n < 1:
            raise ValueError("no sample to decide")
        useful = useful_sizes(n, self._sizes)
        new = [size for size in useful if size not in self._cost_s]
        if new:
            self._time(useful, new)
        split = cheapest_split(n, {b: self._cost_s[b] for b in useful})
        self._splits[n] = split
        return split

    def _time(self, sizes: Sequence[int], new: Sequence[int]) -> None:
        samples = {size: np.zeros((size, *self._spec.shape), self._spec.dtype) for size in sizes}
        for size in new:
            self._run(size, samples[size])  # the first call allocates
        for _ in range(_TIMED_CALLS):
            for size, x in samples.items():
                spent_s = self._one_call_ns(size, x) / NS_PER_S
                self._cost_s[size] = min(spent_s, self._cost_s.get(size, spent_s))

    def _one_call_ns(self, size: int, x: NDArray[Any]) -> int:
        start_ns = now_ns()
        self._run(size, x)
        return now_ns() - start_ns

    def _padded(self, x: NDArray[Any], size: int) -> NDArray[Any]:
        whole = np.zeros((size, *self._spec.shape), self._spec.dtype)
        whole[: len(x)] = x
        return whole
