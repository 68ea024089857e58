"""Many models into one: the weighted mean of a round, and the buffer of asynchronous rounds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgebench.federated.content import Array


def weighted_mean(replies: Iterable[Mapping[str, Array]], weights: Sequence[float]) -> dict[str, Array]:
    """Σ wᵢ·replyᵢ / Σ wᵢ by array, in the order of the replies; they are taken one at a time.

    The order of operations is that of Flower's FedAvg (a float32 array times a Python float, added up in place), so
    that both give the same bits. Raises ValueError for as many replies as not weights, KeyError for unlike replies.
    """
    total = sum(weights)
    mean: dict[str, NDArray[Any]] = {}
    for reply, weight in zip(replies, weights, strict=True):
        _add(mean, reply, weight / total)
    return {name: Array.of(np.asarray(array)) for name, array in mean.items()}


def difference(after: Mapping[str, Array], before: Mapping[str, Array]) -> dict[str, Array]:
    """What a client has learned: after − before, by array."""
    return {name: Array.of(np.asarray(array.numpy() - before[name].numpy())) for name, array in after.items()}


def moved(base: Mapping[str, Array], delta: Mapping[str, Array]) -> dict[str, Array]:
    """The sum, base + delta, by array."""
    return {name: Array.of(np.asarray(array.numpy() + delta[name].numpy())) for name, array in base.items()}


def staleness_discount(staleness: int, exponent: float) -> float:
    """(1 + staleness) ** −exponent: what an update begun `staleness` models ago counts. Source: Nguyen et al. 2022."""
    return float((1 + staleness) ** -exponent)


class ReplyBuffer:
    """Updates of an asynchronous round, added up as they come; `len` is their number since the last flush.

    The aggregate is Σ (nᵢ / Σ n)·s(stalenessᵢ)·Δᵢ with n examples: FedBuff (Nguyen et al. 2022, algorithm 1), but
    weighted by examples as FedAvg is. The discounts are not made up for, so that a stale buffer takes a small step.
    """

    def __init__(self, exponent: float) -> None:
        self._exponent = exponent
        self._sum: dict[str, NDArray[Any]] = {}
        self._examples = 0
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def add(self, delta: Mapping[str, Array], examples: int, staleness: int) -> None:
        """Take in an update; only its share of the sum is kept."""
        _add(self._sum, delta, examples * staleness_discount(staleness, self._exponent))
        self._examples += examples
        self._count += 1

    def flush(self) -> dict[str, Array]:
        """The aggregated update, and an empty buffer after it. Raises ValueError for an empty one."""
        if not self._count:
            raise ValueError("an empty buffer has no aggregate")
        mean = {name: Array.of(np.asarray(array / self._examples)) for name, array in self._sum.items()}
        self._sum, self._examples, self._count = {}, 0, 0
        return mean


def _add(total: dict[str, NDArray[Any]], arrays: Mapping[str, Array], factor: float) -> None:
    if not total:
        total.update({name: array.numpy() * factor for name, array in arrays.items()})
        return
    for name, array in arrays.items():
        total[name] += array.numpy() * factor
