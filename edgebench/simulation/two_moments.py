"""Queues by two moments: what arrives, what it waits for, and how long that takes, by means and variances alone.

Source: Whitt 1983, The Queueing Network Analyzer.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

_HALVINGS = 60


class Stream(NamedTuple):
    """What arrives somewhere: how often, per ns, and the squared coefficient of variation of the gaps."""

    rate: float
    scv: float

    def share(self, share: float) -> Stream:
        """Such a share of it, drawn by chance."""
        return Stream(self.rate * share, share * self.scv + 1 - share)


class Service(NamedTuple):
    """What each batch of arrivals takes, ns, and the square of it, both on average; how many arrivals that is, and how
    long the first of them may wait for the others, ns."""

    mean: float
    square: float
    batch: float = 1.0
    gathers_ns: float = 0.0


class Moments(NamedTuple):
    """Of how long something takes: the least and the mean, ns, and the variance, ns²."""

    least: float = 0.0
    mean: float = 0.0
    variance: float = 0.0

    def then(self, *others: Moments) -> Moments:
        """This and others, which have nothing to do with each other."""
        least, mean, variance = map(math.fsum, zip(self, *others, strict=True))
        return Moments(least, mean, variance)


def moments_of(values: NDArray[Any]) -> Moments:
    """Values [n], ns, of which each is as likely as any other."""
    return Moments(float(values.min()), float(values.mean()), float(values.var()))


class Mixture:
    """Times that are distributed in several ways, each with a weight. Of each the moments are known; it is taken for a
    gamma distribution above its least."""

    def __init__(self, weighted: Iterable[tuple[Moments, float]]) -> None:
        """Of any sum above 0; what is alike is taken together."""
        weights: dict[Moments, float] = {}
        for moments, weight in weighted:
            weights[moments] = weights.get(moments, 0.0) + weight
        self._shares = np.array(list(weights.values())) / math.fsum(weights.values())
        self._least, self._mean, self._variance = np.array(list(weights), float).T

    @property
    def mean(self) -> float:
        """In ns."""
        return math.fsum((self._shares * self._mean).tolist())

    def percentile(self, share: float) -> float:
        """What such a share, above 0 and below 1, does not exceed, ns; infinite where the mean is."""
        if not math.isfinite(self.mean):
            return math.inf
        low, high = 0.0, max(1.0, float(self._mean.max()))
        while self._upto(high) < share:
            low, high = high, 2 * high
        for _ in range(_HALVINGS):
            middle = (low + high) / 2
            low, high = (low, middle) if self._upto(middle) >= share else (middle, high)
        return high

    def _upto(self, ns: float) -> float:
        """Which share takes no longer."""
        from scipy.special import gammainc

        above, upto = self._mean - self._least, np.where(self._mean <= ns, 1.0, 0.0)
        varies = (self._variance > 0) & (above > 0)
        scale, beyond = self._variance[varies] / above[varies], np.maximum(0.0, ns - self._least[varies])
        upto[varies] = gammainc(above[varies] / scale, beyond / scale)
        return float((self._shares * upto).sum())


def merged(streams: Sequence[Stream]) -> Stream:
    """Several as one, by the asymptotic method."""
    rate = sum(stream.rate for stream in streams)
    return Stream(rate, sum(stream.rate * stream.scv for stream in streams) / rate if rate else 0.0)


def station(arrivals: Sequence[Stream], services: Sequence[Service]) -> tuple[Moments, list[Stream]]:
    """A first-in-first-out station: the wait, and what leaves it. Source: Whitt 1983, eqs. 26-33, 38."""
    rate = sum(stream.rate for stream in arrivals)
    if not rate:
        return Moments(), list(arrivals)
    parts = [stream.rate / rate for stream in arrivals]
    mean = sum(part * service.mean for part, service in zip(parts, services, strict=True))
    square = sum(part * service.square for part, service in zip(parts, services, strict=True))
    batch = sum(part * service.batch for part, service in zip(parts, services, strict=True))
    busy, served_scv = rate / batch * mean, max(0.0, square / mean**2 - 1) if mean else 0.0
    if busy >= 1:
        left = Stream(1 / mean, served_scv)
        return Moments(0.0, math.inf, math.inf), [_one_by_one(left, batch).share(part) for part in parts]
    # With arrivals by chance: the first waits so many times this, the others some part of that. (Less than this is
    # possible where there are others, and seldom.)
    gathers = min(max(service.gathers_ns for service in services), batch / rate) / batch
    gathering = Moments(gathers, gathers * (batch + 1) / 2, gathers**2 * (batch - 1) * (batch + 3) / 12)
    alike = 1 / sum(part * part for part in parts)
    weight = 1 / (1 + 4 * (1 - busy) ** 2 * (alike - 1))
    scv = (weight * merged(arrivals).scv + 1 - weight) / batch
    left = Stream(rate / batch, busy**2 * served_scv + (1 - busy**2) * scv)
    waits = wait(mean, busy, scv, served_scv).then(gathering)
    return waits, [_one_by_one(left, batch).share(part) for part in parts]


def wait(service: float, busy: float, scv: float, served_scv: float) -> Moments:
    """For a server that takes so long on average, ns, and is busy for such a share of the time, below 1.

    scv, served_scv: squared coefficients of variation, of the gaps of what arrives and of its service times. Exact of
    arrivals by chance, where service times vary as gamma (below exponential ones) or balanced hyperexponential ones do.
    Source: Whitt 1983, section 5.1; of the mean eqs. 44, 45 (Kraemer and Langenbach-Belz 1976).
    """
    both = scv + served_scv
    mean = service * busy * both / (2 * (1 - busy))
    if mean and scv < 1:
        mean *= math.exp(-2 * (1 - busy) * (1 - scv) ** 2 / (3 * busy * both))
    if not mean:
        return Moments()
    if scv < 1:
        by = (1 + scv + busy * served_scv) / (1 + busy * (served_scv - 1) + busy**2 * (4 * scv + served_scv))
    else:
        by = 4 * busy / (scv + busy**2 * (4 * scv + served_scv))
    waiting = busy + (scv - 1) * busy * (1 - busy) * by
    cubed = (2 * served_scv + 1 if served_scv < 1 else 3 * served_scv) * (served_scv + 1)
    scv_of_waiting = 2 * busy - 1 + 4 * (1 - busy) * cubed / (3 * (served_scv + 1) ** 2)
    return Moments(0.0, mean, mean**2 * ((scv_of_waiting + 1) / waiting - 1))


def _one_by_one(batches: Stream, size: float) -> Stream:
    """The samples of batches that leave as one."""
    return Stream(batches.rate * size, size * batches.scv + size - 1)
