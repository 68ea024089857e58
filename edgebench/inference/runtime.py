"""One interface to every way of running a model, and the table of the built-in ones."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from edgebench.errors import ModelError
from edgebench.inference.spec import Manifest


class Runtime(Protocol):
    """A loaded model. Not thread-safe: it belongs to one thread at a time."""

    def infer(self, x: NDArray[Any]) -> NDArray[np.float32]:
        """Outputs [n, output] for samples [n, *shape] of the manifest's dtype, n ≥ 1.

        x is the caller's, and may change once this returns. More samples than the largest batch size are decided in
        several batches. The first call with a larger n than before prepares and times the batch sizes that it needs:
        warm a model up with the largest n that will come.
        """
        ...

    def close(self) -> None:
        """Release what it holds."""
        ...


BUILT_IN = {
    "litert": "edgebench.inference.litert:LiteRtRuntime",
    "keras": "edgebench.inference.keras_runtime:KerasRuntime",
    "onnx": "edgebench.inference.onnx_runtime:OnnxRuntime",
    "fake": "edgebench.inference.fake:open_fake",
}
"""Runtime name -> `module:attribute` of a callable `(path: Path, manifest: Manifest) -> Runtime`."""


def open_runtime(path: Path, manifest: Manifest, *, warm_for: int = 1) -> Runtime:
    """Load the model file with the runtime that its manifest names, and warm it up for 1 and `warm_for` samples a call.

    Raises ModelError where the runtime is not installed or the file does not load.
    """
    where = BUILT_IN.get(manifest.runtime, manifest.runtime)
    module_name, _, attribute = where.partition(":")
    if not attribute:
        raise ModelError(f"{path}: no runtime '{where}'; there are {', '.join(BUILT_IN)}, or give module:attribute")
    try:
        opener = getattr(importlib.import_module(module_name), attribute)
    except (ImportError, AttributeError) as error:
        raise ModelError(f"{path}: runtime '{manifest.runtime}' is not to be had here: {error}") from error
    runtime = cast("Runtime", opener(path, manifest))
    for n in sorted({1, warm_for}):
        runtime.infer(np.zeros((n, *manifest.input.shape), manifest.input.dtype))
    return runtime


def useful_sizes(n: int, sizes: Sequence[int]) -> tuple[int, ...]:
    """Which of the batch sizes (ascending) a split of n samples may use: those that fit, and the next larger one, which
    may be cheaper padded than several smaller ones.

    >>> useful_sizes(3, (1, 8, 32)), useful_sizes(8, (1, 8, 32))
    ((1, 8), (1, 8))
    """
    fitting = tuple(size for size in sizes if size <= n)
    return fitting if n in sizes else (*fitting, *[size for size in sizes if size > n][:1])


def cheapest_split(n: int, cost_s: Mapping[int, float]) -> tuple[int, ...]:
    """The batch sizes, largest first, that decide n samples in the least time; the last one may be padded.

    cost_s: batch size -> time of one batch, full or padded.
    """
    best: list[tuple[float, tuple[int, ...]]] = [(0.0, ())]
    for count in range(1, n + 1):
        options = ((cost_s[b] + best[max(0, count - b)][0], (b, *best[max(0, count - b)][1])) for b in cost_s)
        best.append(min(options))
    return tuple(sorted(best[n][1], reverse=True))
