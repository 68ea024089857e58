"""How long work takes on an emulated machine: seeded draws from what its profile holds, by the laws that stand here.

A draw takes one of the times that a distribution holds, each as likely as any other, independently of all others.
Between two sizes that were measured (of messages, of batches that a runtime decides at once) the same quantile of both
is taken, and interpolated linearly by size. Beyond what was measured nothing is told.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np

from edgebench.clock import NS_PER_US
from edgebench.inference.runtime import cheapest_split, useful_sizes
from edgebench.seeds import rng_for
from edgebench.topology.profiles import MessageCost, ModelKey, Profile, Times

SPLITTING = ("litert", "keras")
"""Runtimes that decide a batch in several, of the sizes that a model's file has. Others take any number at once."""
_DRAWS = 256
_FASTEST_OF_TEN = 1 / 11
"""The quantile at which the least of ten draws lies on average."""


def quantiles(seed: int, *purpose: str) -> Iterator[float]:
    """Endless numbers uniform in [0, 1), for one kind of work at one node."""
    rng = rng_for(seed, "service", *purpose)
    while True:
        yield from rng.random(_DRAWS).tolist()


def quantile_ns(times: Times, quantile: float) -> float:
    """The time at a quantile, in [0, 1)."""
    return times.us[int(quantile * len(times.us))] * NS_PER_US


def sum_ns(times: Times, n: int, rng: np.random.Generator) -> float:
    """The sum of n draws."""
    us = np.array(times.us)
    return float(us[(rng.random(n) * len(us)).astype(np.intp)].sum()) * NS_PER_US


class SizedTimes:
    """Times by size. Smaller than the smallest takes as long as that; of what is larger than the largest likewise, and
    `beyond` counts how often that was asked for, and `largest` is the largest of these: whoever asks has to say so."""

    __slots__ = ("_sizes", "_times", "beyond", "largest")

    def __init__(self, times: Mapping[int, Times]) -> None:
        self._sizes = sorted(times)
        self._times = [times[size] for size in self._sizes]
        self.beyond = self.largest = 0

    def ns(self, size: int, quantile: float) -> int:
        """At a quantile, in [0, 1)."""
        if size > self._sizes[-1]:
            self.beyond += 1
            self.largest = max(self.largest, size)
        return round(self._between(size, lambda times: quantile_ns(times, quantile)))

    def mean_ns(self, size: int) -> float:
        """The mean of such draws."""
        return self._between(size, lambda times: times.mean_us * NS_PER_US)

    def _between(self, size: int, of: Callable[[Times], float]) -> float:
        sizes, times = self._sizes, self._times
        place = min(bisect_left(sizes, size), len(sizes) - 1)
        if place == 0 or sizes[place] <= size:
            return of(times[place])
        share = (size - sizes[place - 1]) / (sizes[place] - sizes[place - 1])
        below, above = of(times[place - 1]), of(times[place])
        return below + share * (above - below)


class BatchTimes:
    """What a model takes for a batch.

    A runtime that splits batches takes the sum of a draw for each part, of the split that takes the least time when
    nothing hinders it: as it chooses itself, by the fastest of ten calls (`edgebench.inference.batched`).
    """

    __slots__ = ("_costs_ns", "_quantiles", "_sized", "_sizes", "_splits", "_times")

    def __init__(self, times: Mapping[int, Times], sizes: Sequence[int] | None, quantiles: Iterator[float]) -> None:
        """sizes: of the model's file, ascending; None where the runtime takes any number at once."""
        self._times = times
        self._sizes = sizes
        self._quantiles = quantiles
        self._sized = SizedTimes(times)
        self._costs_ns = {size: quantile_ns(each, _FASTEST_OF_TEN) for size, each in times.items()}
        self._splits: dict[int, tuple[int, ...]] = {}

    def service_ns(self, n: int) -> int:
        """A draw for n samples, of those for which nothing is `lacking`."""
        if self._sizes is None:
            return self._sized.ns(n, next(self._quantiles))
        return round(sum(quantile_ns(self._times[size], next(self._quantiles)) for size in self._split(n, self._sizes)))

    def mean_ns(self, n: int) -> float:
        """The mean of such draws."""
        if self._sizes is None:
            return self._sized.mean_ns(n)
        return sum(self._times[size].mean_us for size in self._split(n, self._sizes)) * NS_PER_US

    def _split(self, n: int, sizes: Sequence[int]) -> tuple[int, ...]:
        split = self._splits.get(n)
        if split is None:
            useful = useful_sizes(n, sizes)
            split = self._splits[n] = cheapest_split(n, {size: self._costs_ns[size] for size in useful})
        return split


def lacking(times: Mapping[int, Times], sizes: Sequence[int] | None, max_batch: int) -> list[int]:
    """The batch sizes whose times have to be known for batches of up to `max_batch`, and are not.

    sizes: as `BatchTimes` has them.
    """
    if sizes is None:
        wanted = [1, *([max_batch] if max_batch > max(times, default=0) else [])]
        return [size for size in dict.fromkeys(wanted) if size not in times]
    useful = {size for n in range(1, max_batch + 1) for size in useful_sizes(n, sizes)}
    return sorted(useful - times.keys())


def splits_by(runtime: str, sizes: Sequence[int]) -> Sequence[int] | None:
    """The sizes by which a runtime splits batches for a model's file that has these; None where it does not."""
    return sizes if runtime in SPLITTING else None


class MessageTimes:
    """What messages of one quality of service take, at one node."""

    __slots__ = ("_answer", "_quantiles", "_receive", "_relay", "_send")

    def __init__(self, costs: Sequence[MessageCost], quantiles: Iterator[float]) -> None:
        self._relay = SizedTimes({each.size_bytes: each.relay for each in costs})
        self._receive = SizedTimes({each.size_bytes: each.receive for each in costs})
        self._send = SizedTimes({each.size_bytes: each.send for each in costs})
        self._answer = SizedTimes({each.size_bytes: each.answer for each in costs})
        self._quantiles = quantiles

    def relay_ns(self, size_bytes: int) -> int:
        """Of a broker."""
        return self._relay.ns(size_bytes, next(self._quantiles))

    def receive_ns(self, size_bytes: int) -> int:
        """Of the node, from its broker's giving a message to what it holds being checked."""
        return self._receive.ns(size_bytes, next(self._quantiles))

    def send_ns(self, size_bytes: int) -> int:
        """Of the node, until its broker has what it sends as soon as it has taken something in."""
        return self._send.ns(size_bytes, next(self._quantiles))

    def answer_ns(self, size_bytes: int) -> int:
        """Of the node, until its broker has what the thread of a model sends."""
        return self._answer.ns(size_bytes, next(self._quantiles))

    @property
    def beyond(self) -> int:
        """How many were larger than any that was measured."""
        return max(each.beyond for each in (self._relay, self._receive, self._send, self._answer))

    @property
    def largest_bytes(self) -> int:
        """Of the largest of these; 0 of none."""
        return max(each.largest for each in (self._relay, self._receive, self._send, self._answer))


def batch_times(
    profile: Profile, model: ModelKey, sizes: Sequence[int], seed: int, node: str, share: float = 1.0
) -> BatchTimes:
    """Of a model's file that has these batch sizes, at a node. share: of a part of a model, what it takes of the times
    of the whole."""
    times = profile.model_times(model)
    if share != 1.0:
        times = {size: each.scaled(share) for size, each in times.items()}
    return BatchTimes(times, splits_by(model.runtime, sizes), quantiles(seed, "infer", node, *model))
