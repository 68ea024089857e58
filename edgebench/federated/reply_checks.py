"""Is a reply fit to be aggregated? One poisoned reply must not harm a model that many have learned.

A guard belongs to what was sent in one round. It reads array by array, in blocks: replies may lie in files larger than
memory.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgebench.federated.content import (
    RAW,
    Array,
    Arrays,
    Content,
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
UNIFORM = "one"
"""A metric that is 1 in every reply of the built-in client: weighted by it, all clients count the same."""

_BLOCK = 1 << 18
"""Values looked at at a time: 2 MB of float64."""


def check_round(
    sent: Mapping[str, Array],
    replies: Sequence[Parcel],
    max_update_ratio: float | None,
    *,
    uniform: bool = False,
    most_examples: Sequence[int | None] | None = None,
) -> dict[int, str]:
    """Which replies to a round must not be aggregated: index -> reason.

    sent: the arrays that were to be trained further. max_update_ratio: how many times the cohort's median update an
    update may be large; None: the sizes are not compared. uniform: all clients have to count the same. most_examples:
    how many examples the client of each reply has, in the order of the replies; None where that is not known.
    """
    guard = Guard(sent, max_update_ratio)
    most = [None] * len(replies) if most_examples is None else most_examples
    wrong: dict[int, str] = {}
    norms: dict[int, float] = {}
    for index, (reply, own_most) in enumerate(zip(replies, most, strict=True)):
        reason, norms[index] = guard.measure(reply, most_examples=own_most)
        if reason is not None:
            wrong[index] = reason
    if uniform:
        for index, reply in enumerate(replies):
            if metrics_in(reply.content).get(UNIFORM) != 1:
                wrong.setdefault(index, f"metric '{UNIFORM}' is not 1")
    wrong |= _unlike({index: reply.content for index, reply in enumerate(replies) if index not in wrong})
    if max_update_ratio is None:
        return wrong
    sound = [index for index in range(len(replies)) if index not in wrong]
    outliers = too_large([norms[index] for index in sound], max_update_ratio)
    return wrong | {sound[place]: reason for place, reason in outliers.items()}


class Guard:
    """Checks replies to the arrays `sent` that are to be trained further.

    max_update_ratio: how many times the cohort's median update an update may be large; None: as large as it likes.
    """

    def __init__(self, sent: Mapping[str, Array], max_update_ratio: float | None) -> None:
        self._sent = sent
        self._views = {name: array.numpy() for name, array in sent.items()}
        self._max_update_ratio = max_update_ratio

    def check(self, reply: Parcel, *, most_examples: int | None = None) -> str | None:
        """Why a reply is refused, whatever the others say; None where it is sound.

        most_examples: how many its client has; None where that is not known.
        """
        return self.measure(reply, most_examples=most_examples)[0]

    def measure(self, reply: Parcel, *, most_examples: int | None = None) -> tuple[str | None, float]:
        """As `check`; and `update_norm` of a sound reply, where sizes are compared: values are looked at but once."""
        if reply.head.error is not None:
            return reply.head.error, 0.0
        reason = (
            _wrong_records(reply.content)
            or self._wrong_arrays(arrays_in(reply.content))
            or _wrong_metrics(metrics_in(reply.content))
            or overstated(metrics_in(reply.content).get(EXAMPLES), most_examples)
        )
        if reason is not None or self._max_update_ratio is None:
            return reason or not_finite(reply.content), 0.0
        try:
            norm = self.update_norm(reply)
        except ContentError as error:
            return str(error), 0.0
        # If it is finite, so is every value.
        return None if math.isfinite(norm) else not_finite(reply.content), norm

    def outliers(self, replies: Sequence[Parcel]) -> dict[int, str]:
        """Which of a cohort's sound replies change the model too much, and by how much: index -> reason."""
        if self._max_update_ratio is None:
            return {}
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


def not_finite(content: Content) -> str | None:
    """Which array holds a value that is no finite number, or cannot be read; None where all is well."""
    try:
        for name, array in numpy_arrays(content):
            if not all(np.isfinite(block).all() for block in _blocks(array)):
                return f"array '{name}' holds values that are not finite"
    except ContentError as error:
        return str(error)
    return None


def too_large(norms: Sequence[float], max_ratio: float) -> dict[int, str]:
    """Which updates are larger than `max_ratio` times the (lower) median of the cohort's: index -> reason.

    A median of 0 says nothing of how large an update may be: where most have learned nothing, nobody is refused.
    """
    median = sorted(norms)[(len(norms) - 1) // 2] if norms else 0.0
    if median == 0:
        return {}
    return {
        index: f"its update is {norm / median:.3g} times the median of the cohort's (limit {max_ratio:g})"
        for index, norm in enumerate(norms)
        if norm > max_ratio * median
    }


def overstated(examples: object, most: int | None) -> str | None:
    """Why a claim to so many examples is refused, of a client that has `most` (None: not known).

    Replies are weighted by what they claim: one client with 10^15 examples would be the mean.
    """
    if most is None or not isinstance(examples, int | float) or examples <= most:
        return None
    return f"metric '{EXAMPLES}' is {examples}, but its client has {most}"


def _unlike(sound: Mapping[int, Mapping[str, Record]]) -> dict[int, str]:
    """Sound replies whose records or metrics have other names than most: Flower would refuse all for their sake."""
    names = {
        index: tuple(
            (name, tuple(sorted(record.items)) if isinstance(record, Metrics) else ())
            for name, record in sorted(content.items())
        )
        for index, content in sound.items()
    }
    if not names:
        return {}
    usual = Counter(names.values()).most_common(1)[0][0]
    return {index: "its records have other names than most" for index, own in names.items() if own != usual}


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
