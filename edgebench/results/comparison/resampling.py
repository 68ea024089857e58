"""How far chance goes: intervals of figures of one run from blocks of its time, and of several runs from these."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from edgebench.results.comparison.figures import LEVEL

RESAMPLES = 1_000

Floats = NDArray[np.float64]
Interval = tuple[float, float]


def block_length(series: Floats) -> int:
    """How many values [n] of a series in time make a block, so that blocks are nearly independent of one another.

    The length that is best for the variance of the mean by a circular block bootstrap, at least 1.
    Source: Politis & White 2004, with the correction of Patton, Politis & White 2009.
    """
    n = len(series)
    centred = series - series.mean()
    variance = float(centred @ centred) / n
    if n < 4 or variance == 0:
        return 1
    insignificant = max(5, math.ceil(math.sqrt(math.log10(n))))
    most = min(n - 1, math.ceil(math.sqrt(n)) + insignificant)
    covariances = np.array([float(centred[lag:] @ centred[: n - lag]) / n for lag in range(most + 1)])
    small = np.abs(covariances[1:] / variance) < 2 * math.sqrt(math.log10(n) / n)
    # The lag after which so many in a row tell nothing; else the last that tells something.
    runs = (lag for lag in range(len(small) - insignificant + 1) if small[lag : lag + insignificant].all())
    told = next(runs, int(np.flatnonzero(~small)[-1]) + 1 if not small.all() else 0)
    window = min(max(2 * told, 1), most)
    lags = np.arange(-window, window + 1)
    flat_top = np.minimum(1.0, 2 * (1 - np.abs(lags) / window))
    weighted = flat_top * covariances[np.abs(lags)]
    slope, spread = float(weighted @ np.abs(lags)), 4 / 3 * float(weighted.sum()) ** 2
    if spread == 0:
        return 1
    longest = math.ceil(min(3 * math.sqrt(n), n / 3))
    return min(max(1, round((2 * slope**2 / spread) ** (1 / 3) * n ** (1 / 3))), longest)


class Blocks:
    """Stretches of a run's time, drawn anew: so often each of its slots was drawn, float32 [resample, slot]."""

    def __init__(self, slots: int, block: int, chance: np.random.Generator, resamples: int = RESAMPLES) -> None:
        """Circular: a block that begins near the end goes on at the beginning. Source: Politis & Romano 1992."""
        starts = chance.integers(slots, size=(resamples, math.ceil(slots / block), 1))
        drawn = ((starts + np.arange(block)) % slots).reshape(resamples, -1)[:, :slots]
        places = drawn + slots * np.arange(resamples)[:, np.newaxis]
        self.times = (
            np.bincount(places.ravel(), minlength=resamples * slots).reshape(resamples, slots).astype(np.float32)
        )

    def ratio(self, of: Floats, to: Floats) -> Floats:
        """The sum of one thing [slot] by that of another [slot], say a mean [resample]; NaN where there is none."""
        with np.errstate(invalid="ignore", divide="ignore"):
            found: Floats = np.asarray((self.times @ of) / (self.times @ to), np.float64)
        return found

    def percentiles(self, counts: NDArray[np.float32], values: Floats, shares: Sequence[float]) -> Floats:
        """Nearest-rank percentiles [resample, share] of values [bin], which slots have so often: counts [slot, bin].

        NaN of a resample in whose slots there is nothing.
        """
        upto = np.cumsum(self.times @ counts, axis=1, dtype=np.float64)
        ranks = np.ceil(np.round(np.outer(upto[:, -1], shares), 6))
        places = [(upto >= rank[:, np.newaxis]).argmax(axis=1) for rank in ranks.T]
        found: Floats = np.stack([values[place] for place in places], axis=1).astype(np.float64)
        found[upto[:, -1] == 0] = np.nan
        return found


def middle(drawn: Floats, blocks: float) -> Interval | None:
    """The interval that holds the middle share of what was drawn [resample]; None where there is nothing.

    blocks: how many fit into the run. Of few, it is as much wider as Student's t is wider than a normal distribution.
    """
    finite = drawn[np.isfinite(drawn)]
    if not len(finite):
        return None
    low, centre, high = np.quantile(finite, [(1 - LEVEL) / 2, 0.5, (1 + LEVEL) / 2])
    wider = _reach(blocks - 1) / NormalDist().inv_cdf((1 + LEVEL) / 2) * math.sqrt(blocks / (blocks - 1))
    return float(centre - wider * (centre - low)), float(centre + wider * (high - centre))


def of_runs(first: Sequence[float], other: Sequence[float]) -> Interval | None:
    """Of the difference of the means of runs, other - first. None where either side has one run only.

    Each side's spread is its own (Welch 1947); that of a side of one run is taken to be the other side's.
    """
    counts = (len(first), len(other))
    if max(counts) < 2:
        return None
    difference = float(np.mean(other) - np.mean(first))
    if min(counts) > 1:
        parts = [float(np.var(each, ddof=1)) / len(each) for each in (first, other)]
        squared = sum(parts)
        freedom = squared**2 / sum(part**2 / (n - 1) for part, n in zip(parts, counts, strict=True)) if squared else 1.0
    else:
        several = max(first, other, key=len)
        squared = float(np.var(several, ddof=1)) * (1 / counts[0] + 1 / counts[1])
        freedom = len(several) - 1.0
    reach = _reach(freedom) * math.sqrt(squared)
    return difference - reach, difference + reach


def _reach(freedom: float) -> float:
    """How many standard errors an interval reaches to either side, by Student's t."""
    from scipy.special import stdtrit

    return float(stdtrit(freedom, (1 + LEVEL) / 2))


def of_mean(values: Sequence[float]) -> Interval | None:
    """Of the mean of runs (Student). None of fewer than two."""
    if len(values) < 2:
        return None
    reach = _reach(len(values) - 1) * float(np.std(values, ddof=1)) / math.sqrt(len(values))
    mean = float(np.mean(values))
    return mean - reach, mean + reach


def of_intervals(first: float, of_first: Interval, other: float, of_other: Interval) -> Interval:
    """Of the difference of two independent figures, each with its interval, other - first.

    Source: Zou & Donner 2008 (recovery of variance estimates).
    """
    difference = other - first
    down = math.hypot(other - of_other[0], of_first[1] - first)
    up = math.hypot(of_other[1] - other, first - of_first[0])
    return difference - down, difference + up
