"""Percentiles, and how many samples one needs."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

CONFIDENCE = 0.99


def rounded(value: float) -> float:
    """To six digits, as figures are written."""
    return round(float(value), 6)


def percentiles(values: NDArray[Any], shares: tuple[float, ...]) -> tuple[float, ...]:
    """Nearest-rank percentiles of values [n], n ≥ 1: the smallest value that at least a share of all do not exceed.

    Each is a value that was observed; none is interpolated.
    """
    ranks = [rank_of(share, len(values)) for share in shares]
    ordered = np.partition(values, sorted(set(ranks)))
    return tuple(float(ordered[rank]) for rank in ranks)


def rank_of(share: float, count: int) -> int:
    """The nearest rank of a percentile among so many values, from 0."""
    # 0.99 * 300 is 297.00000000000006 as a float and would round up to the wrong rank.
    return max(math.ceil(round(share * count, 6)), 1) - 1


def samples_needed(over: int, *, percentile: float = 0.99, confidence: float = CONFIDENCE) -> int:
    """How many samples it takes to state, with this confidence, that a percentile meets a bound that `over` exceeded.

    The smallest h + over with I(percentile; h, over + 1) ≤ 1 − confidence, I being the regularised incomplete beta
    function: the chance to see at most `over` of h + over samples above the true percentile.
    Source: MLPerf Inference (Reddi et al. 2020), early stopping.
    """
    low, high = over + 1, over + 2
    while _chance(high, over, 1 - percentile) > 1 - confidence:
        low, high = high, high * 2
    while high - low > 1:
        middle = (low + high) // 2
        if _chance(middle, over, 1 - percentile) > 1 - confidence:
            low = middle
        else:
            high = middle
    return high


def upper_bound(values: NDArray[Any], *, percentile: float = 0.99, confidence: float = CONFIDENCE) -> float | None:
    """The smallest of the values [n] that the true percentile does not exceed, with this confidence.

    None where there are too few values to name any: fewer than `samples_needed(0)`.
    """
    rank = upper_rank(len(values), percentile=percentile, confidence=confidence)
    return None if rank is None else float(np.partition(values, rank)[rank])


def upper_rank(count: int, *, percentile: float = 0.99, confidence: float = CONFIDENCE) -> int | None:
    """The rank of `upper_bound` among so many values, from 0."""
    if count == 0 or _chance(count, 0, 1 - percentile) > 1 - confidence:
        return None
    over, beyond = 0, math.ceil(count * (1 - percentile)) + 1
    while beyond - over > 1:
        middle = (over + beyond) // 2
        if _chance(count, middle, 1 - percentile) > 1 - confidence:
            beyond = middle
        else:
            over = middle
    return count - 1 - over


def _chance(trials: int, at_most: int, chance: float) -> float:
    """The chance of at most so many hits in independent trials."""
    from scipy.special import bdtr

    return 1.0 if at_most >= trials else float(bdtr(at_most, trials, chance))
