"""Is a reply fit to be aggregated? One poisoned reply must not harm a model that many have learned.

A guard belongs to what was sent in one round. It reads array by array, in blocks: replies may lie in files larger than
memory.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgebench.federated.content import (
    RAW,
    Array,
    Arrays,
    ContentError,
    Metrics,
    Parcel,
    Record,
    arrays_in,
    metrics_in,
    numpy_arrays,
)

EXAMPLES = "num-examples"
"""The metric that replies are weighted by."""

_BLOCK = 1 << 18
"""Values looked at at a time: 2 MB of float64."""


class Guard:
    """Checks replies to the arrays `sent` that are to be trained further.

    max_update_ratio: how many times the cohort's median update an update may be large.
    """

    def __init__(self, sent: Mapping[str, Array], max_update_ratio: float) -> None:
        self._sent = sent
        self._views = {name: array.numpy() for name, array in sent.items()}
        self._max_update_ratio = max_update_ratio

    def check(self, reply: Parcel) -> str | None:
        """Why a reply is refused, whatever the others say; None where it is sound."""
        if reply.head.error is not None:
            return reply.head.error
        return (
            _wrong_records(reply.content)
            or self._wrong_arrays(arrays_in(reply.content))
            or _wrong_metrics(metrics_in(reply.content))
            or self._not_finite(reply)
        )

    def outliers(self, replies: Sequence[Parcel]) -> dict[int, str]:
        """Which of a cohort's sound replies change the model too much, and by how much: index -> reason."""
        return too_large([self.update_norm(reply) for reply in replies], self._max_update_ratio)

    def update_norm(self, reply: Parcel) -> float:
        """‖reply − sent‖₂ over all arrays of a sound reply."""
        total = 0.0
        with np.errstate(over="ignore"):  # then the norm is infinite, and so it should be
            for name, array in numpy_arrays(reply.content):
                for here, there in zip(_blocks(array), _blocks(self._views[name]), strict=True):
                    change = here.astype(np.float64) - there
                    total += float(np.dot(change, change))
        return math.sqrt(total)

    def _wrong_arrays(self, arrays: Mapping[str, Array]) -> str | None:
        for name in self._sent:
            if name not in arrays:
                return f"array '{name}' is missing"
        for name, array in arrays.items():
            if name not in self._sent:
                return f"array '{name}' was never sent"
            expected = self._sent[name]
            if (array.dtype, array.shape, array.kind) != (expected.dtype, expected.shape, RAW):
                what = f"{array.dtype} {list(array.shape)}" + ("" if array.kind == RAW else f" of kind '{array.kind}'")
                return f"array '{name}' is {what}, not {expected.dtype} {list(expected.shape)}"
        # Robust strategies go by place, not by name.
        if list(arrays) != list(self._sent):
            return "its arrays stand in another order than those sent"
        return None

    def _not_finite(self, reply: Parcel) -> str | None:
        try:
            for name, array in numpy_arrays(reply.content):
                if not all(np.isfinite(block).all() for block in _blocks(array)):
                    return f"array '{name}' holds values that are not finite"
        except ContentError as error:
            return str(error)
        return None


def too_large(norms: Sequence[float], max_ratio: float) -> dict[int, str]:
    """Which updates are larger than `max_ratio` times the (lower) median of the cohort's: index -> reason."""
    if not norms:
        return {}
    median = sorted(norms)[(len(norms) - 1) // 2]
    found = {}
    for index, norm in enumerate(norms):
        if norm > max_ratio * median:
            times = norm / median if median else math.inf
            found[index] = f"its update is {times:.3g} times the median of the cohort's (limit {max_ratio:g})"
    return found


def _wrong_records(content: Mapping[str, Record]) -> str | None:
    # Strategies add up all records of arrays, so a second one would slip past the checks of the first.
    for kind, what in ((Arrays, "arrays"), (Metrics, "metrics")):
        count = sum(isinstance(record, kind) for record in content.values())
        if count != 1:
            return f"it has {count} records of {what}, not 1"
    return None


def _wrong_metrics(metrics: Mapping[str, int | float | list[int | float]]) -> str | None:
    examples = metrics.get(EXAMPLES)
    if examples is None:
        return f"metric '{EXAMPLES}' is missing"
    if type(examples) is not int or examples < 1:
        return f"metric '{EXAMPLES}' is {examples}, not a positive whole number"
    for name, value in metrics.items():
        numbers = value if isinstance(value, list) else [value]
        wrong = next((number for number in numbers if not math.isfinite(number)), None)
        if wrong is not None:
            return f"metric '{name}' is {wrong}"
    return None


def _blocks(array: NDArray[Any]) -> Iterator[NDArray[Any]]:
    flat = array.reshape(-1)  # a view: arrays of a parcel are in C order
    for start in range(0, flat.size, _BLOCK):
        yield flat[start : start + _BLOCK]
