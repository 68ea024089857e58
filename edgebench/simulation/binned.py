"""Distributions of times in constant memory: how many fall into each of many narrow bins.

Bins are as wide as a 1,024th of what they hold, so that a percentile is known to a tenth of a percent; a mean is exact,
and so are the least and the greatest. Source: HdrHistogram, G. Tene.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edgebench.results import stats
from edgebench.results.timeline import Axis, Timeline
from edgebench.results.values import Values
from edgebench.simulation.columns import Ints
from edgebench.simulation.jit import inlined

FINE_BITS, COARSE_BITS = 10, 5
_MOST_BITS = 48
"""Of ns: three days."""


def bins(bits: int) -> int:
    """How many there are, each as wide as a 2 ** `bits`-th of what it holds."""
    return (_MOST_BITS - bits + 1) << bits


@inlined
def bin_of(value: int, bits: int) -> int:
    """The bin of a value; the last one for all that is beyond."""
    if value < 1 << bits:
        return value
    shift = 0
    rest = value >> bits
    for step in (32, 16, 8, 4, 2, 1):
        if rest >> step:
            rest >>= step
            shift += step
    shift += 1
    place = (shift << bits) + (value >> (shift - 1)) - (1 << bits)
    return min(place, ((_MOST_BITS - bits + 1) << bits) - 1)


def middles(bits: int) -> Ints:
    """The middle of each bin."""
    place = np.arange(bins(bits), dtype=np.int64)
    shift, rest = place >> bits, place & ((1 << bits) - 1)
    width = np.int64(1) << np.maximum(shift - 1, 0)
    low = np.where(shift == 0, rest, (rest + (1 << bits)) * width)
    return low + (width - 1) // 2


class Binned(Values):
    """Values of which is known how many are in each bin."""

    def __init__(self, counts: Ints, total: int, least: int, most: int) -> None:
        """Counts [bin]: of `FINE_BITS`."""
        super().__init__()
        self.total = total
        self._upto = np.cumsum(counts)
        self._least = least
        self._most = most

    def __len__(self) -> int:
        return int(self._upto[-1])

    def percentiles(self, *shares: float) -> tuple[float, ...]:
        """See `Values.percentiles`."""
        return tuple(self._at(stats.rank_of(share, len(self))) for share in shares)

    def upper_bound(self) -> float | None:
        """See `Values.upper_bound`."""
        rank = stats.upper_rank(len(self))
        return None if rank is None else self._at(rank)

    def _at(self, rank: int) -> float:
        if rank == len(self) - 1:
            return float(self._most)
        place = int(np.searchsorted(self._upto, rank, side="right"))
        return float(np.clip(_MIDDLES[place], self._least, self._most))


_MIDDLES = middles(FINE_BITS)


class BinnedTimeline(Timeline):
    """As `Timeline`, of bins of `COARSE_BITS`: charts are no more precise than that."""

    def __init__(self, axis: Axis, latency_ns: Binned, counts: NDArray[np.int32], lost: Ints, arrived: Ints) -> None:
        """Counts [narrow bin of time, bin]; lost, arrived [narrow bin of time]."""
        super().__init__(axis, latency_ns=latency_ns)
        self.lost.update({int(place): int(lost[place]) for place in np.flatnonzero(lost)})
        self.arrived.update({int(place): int(arrived[place]) for place in np.flatnonzero(arrived)})
        self._counts = counts

    def percentiles_by(self, narrow: int, shares: tuple[float, ...]) -> dict[int, tuple[float, ...]]:
        """See `Timeline.percentiles_by`."""
        found = {}
        for place in range(0, len(self._counts), narrow):
            upto = np.cumsum(self._counts[place : place + narrow].sum(axis=0))
            if upto[-1]:
                places = [int(np.searchsorted(upto, share * upto[-1])) for share in shares]
                found[place // narrow] = tuple(float(_COARSE_MIDDLES[each]) for each in places)
        return found


_COARSE_MIDDLES = middles(COARSE_BITS)
