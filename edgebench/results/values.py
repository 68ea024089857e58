"""What figures are folded from: parts that take in chunks, and merge with the same part of other chunks.

Whatever the chunks and the order in which they come and merge, the result is that of the whole.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import fields
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from edgebench.results import stats

Ints = NDArray[np.int64]
_NARROW = (np.int16, np.int32)


class Values:
    """Whole numbers as they were observed: 4 bytes each where they are below 2³¹ (2.1 s in ns), none for a chunk of
    equal ones.

    Percentiles need them all: no sketch gives the exact value of a rank.
    """

    def __init__(self) -> None:
        self.total = 0
        self._parts: list[NDArray[np.integer[Any]]] = []

    def __len__(self) -> int:
        return sum(map(len, self._parts))

    def update(self, values: Ints) -> None:
        """Take in values [n]."""
        if not len(values):
            return
        least, most = int(values.min()), int(values.max())
        self.total += int(values.sum())  # a Python number: the sum of a long run is more than int64 holds
        fitting = (kind for kind in _NARROW if np.iinfo(kind).min <= least and most <= np.iinfo(kind).max)
        kept: NDArray[np.integer[Any]] = values.astype(next(fitting, np.int64))
        self._parts.append(np.broadcast_to(kept[0], kept.shape) if least == most else kept)

    def merge(self, other: Self) -> None:
        """Take in those of another."""
        self.total += other.total
        self._parts += other._parts

    @property
    def array(self) -> NDArray[np.integer[Any]]:
        """All of them [n]; in the order of the chunks."""
        return np.concatenate(self._parts) if self._parts else np.zeros(0, np.int64)

    @property
    def mean(self) -> float:
        """Of one value or more."""
        return self.total / len(self)

    def percentiles(self, *shares: float) -> tuple[float, ...]:
        """As in `stats.percentiles`, of one value or more."""
        return stats.percentiles(self.array, shares)

    def upper_bound(self) -> float | None:
        """As in `stats.upper_bound`."""
        return stats.upper_bound(self.array)


class Extremes:
    """The least and the greatest of whole numbers; None of none."""

    def __init__(self) -> None:
        self.least: int | None = None
        self.most: int | None = None

    def update(self, values: Ints) -> None:
        """Take in values [n]."""
        if len(values):
            self._extend(int(values.min()), int(values.max()))

    def merge(self, other: Self) -> None:
        """Take in those of another."""
        if other.least is not None and other.most is not None:
            self._extend(other.least, other.most)

    def _extend(self, least: int, most: int) -> None:
        self.least = least if self.least is None else min(self.least, least)
        self.most = most if self.most is None else max(self.most, most)


class Mergeable:
    """A dataclass of parts: numbers and counters add up, and parts merge, also those in a dict or a list.

    PARAMETERS: fields that say what is folded, and are the same in all that merge.
    """

    PARAMETERS: ClassVar[tuple[str, ...]] = ()

    def merge(self, other: Self) -> None:
        """Take in what another has folded, which was made with the same parameters."""
        for each in fields(self):  # type: ignore[arg-type]
            if each.name not in self.PARAMETERS:
                merged = _merged(getattr(self, each.name), getattr(other, each.name))
                setattr(self, each.name, merged)


def _merged(mine: Any, others: Any) -> Any:
    if isinstance(mine, int | float):
        return mine + others
    if isinstance(mine, Counter):
        mine.update(others)
    elif isinstance(mine, dict):
        for name, each in others.items():
            mine[name] = _merged(mine[name], each) if name in mine else each
    elif isinstance(mine, list):
        for each, other in zip(mine, others, strict=True):
            each.merge(other)
    elif mine is not None:
        mine.merge(others)
    return mine


def count(into: Counter[Any], keys: NDArray[Any]) -> None:
    """Add how often each of the keys [n] occurs."""
    found, times = np.unique(keys, return_counts=True)
    into.update(dict(zip(found.tolist(), times.tolist(), strict=True)))
