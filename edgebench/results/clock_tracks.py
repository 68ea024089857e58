"""A machine's clock beside the server's all through a run, when both sides of every moment are known."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgebench.core.clocks import ClockComparison, Exchange, Irregularity
from edgebench.results.values import Ints

UNKNOWN_NS = 1 << 60
"""The bound of an offset of which nothing is known."""


@dataclass(frozen=True)
class _Laws:
    """Columns [law] of `Law`, each true from `from_ns` on."""

    from_ns: Ints
    at_ns: Ints
    offset_ns: Ints
    bound_ns: Ints
    least: NDArray[np.float64]
    most: NDArray[np.float64]

    def between(self, own_ns: Ints) -> tuple[Ints, Ints]:
        """The least and the greatest that the offset can be, at moments [n]."""
        which = np.maximum(np.searchsorted(self.from_ns, own_ns, side="right") - 1, 0)
        span_ns = own_ns - self.at_ns[which]
        changes = self.least[which] * span_ns, self.most[which] * span_ns
        low_ns = self.offset_ns[which] - self.bound_ns[which] + np.floor(np.minimum(*changes)).astype(np.int64)
        return low_ns, self.offset_ns[which] + self.bound_ns[which] + np.ceil(np.maximum(*changes)).astype(np.int64)


class _BothWays:
    """What exchanges tell of the time after each, and by the same law, with time turned round, of that before."""

    def __init__(self, exchanges: Sequence[Exchange], *, steady: bool) -> None:
        turned = [Exchange(-each.t3_ns, -each.t2_ns, -each.t1_ns, -each.t0_ns) for each in reversed(exchanges)]
        self._onward, onward = _laws(exchanges, steady)
        self._backward, backward = _laws(turned, steady)
        self.irregularities = onward
        self.seen_backward = [
            Irregularity(each.kind, -each.until_ns, -each.after_ns, each.by_ns) for each in reversed(backward)
        ]

    def between(self, own_ns: Ints) -> tuple[Ints, Ints]:
        """What both allow; where they exclude each other, as between the moments before and after a jump, what either
        does."""
        low_ns, high_ns = self._onward.between(own_ns)
        turned_low_ns, turned_high_ns = self._backward.between(-own_ns)
        lows, highs = (low_ns, -turned_high_ns), (high_ns, -turned_low_ns)
        least, most = np.maximum(*lows), np.minimum(*highs)
        apart = least > most
        return np.where(apart, np.minimum(*lows), least), np.where(apart, np.maximum(*highs), most)

    def either(self, own_ns: Ints) -> tuple[Ints, Ints]:
        """What either allows."""
        low_ns, high_ns = self._onward.between(own_ns)
        turned_low_ns, turned_high_ns = self._backward.between(-own_ns)
        return np.minimum(low_ns, -turned_high_ns), np.maximum(high_ns, -turned_low_ns)


class ClockTrack:
    """The server's clock minus a machine's, at any moment of the machine's.

    exchanges: in the order in which they were made, the machine's clock being the own one; there may be none, and then
    nothing is known.
    """

    def __init__(self, exchanges: Sequence[Exchange]) -> None:
        self.exchanges = len(exchanges)
        self.irregularities: list[Irregularity] = []
        if not exchanges:
            return
        self.first_ns, self.last_ns = exchanges[0].t0_ns, exchanges[-1].t3_ns
        self._steady = _BothWays(exchanges, steady=True)
        self._unsteady = _BothWays(exchanges, steady=False)
        self.irregularities = self._steady.irregularities
        both = (self._steady, self._unsteady)
        self._doubtful = [found for each in both for found in (*each.irregularities, *each.seen_backward)]

    def at(self, own_ns: Ints) -> tuple[Ints, Ints]:
        """The offset at moments [n], and how far at most the truth is from it [n], ns."""
        if not self.exchanges:
            return np.zeros(len(own_ns), np.int64), np.full(len(own_ns), UNKNOWN_NS, np.int64)
        low_ns, high_ns = self._steady.between(own_ns)
        # Where the drift has changed it is not known when, so that nothing is taken to be known of it there.
        for kind, law in (("drift", self._unsteady.between), ("step", self._unsteady.either)):
            for each in self._doubtful:
                if each.kind == kind:
                    within = (own_ns > each.after_ns) & (own_ns < each.until_ns)
                    low_ns[within], high_ns[within] = law(own_ns[within])
        return (low_ns + high_ns) // 2, (high_ns - low_ns + 1) // 2

    def to_server(self, own_ns: int) -> int:
        """The moment on the server's clock."""
        offset_ns, _ = self.at(np.array([own_ns]))
        return own_ns + int(offset_ns[0])

    def own_at(self, server_ns: int) -> int:
        """What the machine's clock read at a moment of the server's."""
        own_ns = server_ns
        for _ in range(4):  # the offset there changes by a thousandth at most of what the moment does
            own_ns = server_ns - (self.to_server(own_ns) - own_ns)
        return own_ns

    def drift_ppm(self, from_ns: int, to_ns: int) -> tuple[float, float]:
        """What the machine's clock gains on the server's between two moments of its own, on average, and how far at
        most the truth is from that; (0, inf) where nothing is known."""
        if not self.exchanges or to_ns <= from_ns:
            return 0.0, np.inf
        offset_ns, bound_ns = self.at(np.array([from_ns, to_ns]))
        span_ns = to_ns - from_ns
        # The server gains on the machine what the offset grows by.
        return float(offset_ns[0] - offset_ns[1]) / span_ns * 1e6, float(bound_ns.sum()) / span_ns * 1e6


def _laws(exchanges: Iterable[Exchange], steady: bool) -> tuple[_Laws, list[Irregularity]]:
    comparison = ClockComparison(steady=steady)
    from_ns, found = [], []
    for each in exchanges:
        comparison.add(each.t0_ns, each.t1_ns, each.t2_ns, each.t3_ns)
        if (law := comparison.law) is not None:
            from_ns.append((each.t0_ns + each.t3_ns) // 2)
            found.append(law)
    columns = zip(*found, strict=True)
    at_ns, offset_ns, bound_ns = (np.array(next(columns), np.int64) for _ in range(3))
    least, most = (np.array(column, np.float64) for column in columns)
    return _Laws(np.array(from_ns, np.int64), at_ns, offset_ns, bound_ns, least, most), comparison.irregularities
