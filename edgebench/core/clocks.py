"""How another clock stands to one's own, from messages that both stamp, and how far that can be told.

One's own clock reads t0 when a question is sent and t3 when its answer is here; the other reads t1 when it has the
question and t2 when it answers. At t0 the other read t1 at the most, at t3 it read t2 at the least, whatever either way
took. So it is ahead by something from t2 - t3 to t1 - t0: the middle of these, give or take half the round trip. The
quickest exchange tells most, and the less the longer ago it was, by as much as the drift is not known.

Sources: F. Cristian, "Probabilistic clock synchronization", Distributed Computing 3, 1989; RFC 5905 (NTP version 4),
section 8 for the four stamps, section 4 for the tolerance of 15 ppm.
"""

from __future__ import annotations

import itertools
import math
from collections import deque
from collections.abc import Iterable
from typing import Literal, NamedTuple

import msgspec

from edgebench.clock import NS_PER_S

MOST_PPM = 1_000.0
"""No two clocks drift apart faster: Linux disciplines each of them by 500 ppm at the most."""
WANDER_PPM = 15.0
"""By so much the drift may differ between any two moments of a minute."""
WINDOW_NS = 60 * NS_PER_S
"""The drift is told from exchanges of so long a time."""
BLOCK_NS = 4 * NS_PER_S
"""Of each such time of the window the quickest exchange counts for the drift."""

_PPM = 1e-6
_MOST = MOST_PPM * _PPM
_WANDER = WANDER_PPM * _PPM


class Exchange(msgspec.Struct, frozen=True, array_like=True):
    """The stamps of a question and its answer: own clock when it was sent, the other's when it came and when it was
    answered, own when the answer came."""

    t0_ns: int
    t1_ns: int
    t2_ns: int
    t3_ns: int


class Offset(msgspec.Struct, frozen=True):
    """At some moment: other minus own clock, ns; the truth is no further away than `bound_ns`. drift_ppm: what the
    other gains on the own; likewise."""

    offset_ns: int
    bound_ns: int
    drift_ppm: float
    drift_bound_ppm: float


class Irregularity(msgspec.Struct, frozen=True):
    """What no clock should do, between two moments of one's own: a `step` (by_ns: of the other's clock, forward), or
    a `drift` that changes by more than `WANDER_PPM`."""

    kind: Literal["step", "drift"]
    after_ns: int
    until_ns: int
    by_ns: int = 0


class Law(NamedTuple):
    """What follows from one exchange for other moments: at `at_ns` the offset was `offset_ns`, give or take `bound_ns`,
    and in a ns it changes by `least` to `most`."""

    at_ns: int
    offset_ns: int
    bound_ns: int
    least: float
    most: float

    def between(self, own_ns: int) -> tuple[int, int]:
        """The least and the greatest that the offset can be at a moment."""
        changes = self.least * (own_ns - self.at_ns), self.most * (own_ns - self.at_ns)
        low_ns = self.offset_ns - self.bound_ns + math.floor(min(changes))
        return low_ns, self.offset_ns + self.bound_ns + math.ceil(max(changes))


class _Seen(NamedTuple):
    """What one exchange tells by itself."""

    at_ns: int
    offset_ns: int
    bound_ns: int


class _Drift(NamedTuple):
    """Between which figures it lies."""

    least: float
    most: float


_ANY_DRIFT = _Drift(-_MOST, _MOST)


class ClockComparison:
    """Another clock beside one's own, from exchanges in the order in which they were made.

    What it states is true as long as the other clock does not jump, and its drift differs by no more than `WANDER_PPM`
    between any two moments of a minute; what contradicts that is noticed with the next exchange or a few later.

    >>> clock = ClockComparison()
    >>> clock.add(1_000, 51_300, 51_400, 1_500)
    >>> clock.at(1_250).offset_ns
    50100
    """

    def __init__(self, *, steady: bool = True) -> None:
        """steady: whether the drift is taken to be the same for a minute; else each moment may have its own, of at
        most `MOST_PPM`."""
        self._steady = steady
        self._drift = _ANY_DRIFT
        self._anchor: _Seen | None = None
        self._last: _Seen | None = None
        self._window: deque[_Seen] = deque()
        self.irregularities: list[Irregularity] = []

    def add(self, t0_ns: int, t1_ns: int, t2_ns: int, t3_ns: int) -> None:
        """Take in an exchange: own send, the other's receipt, the other's answer, own receipt.

        One that was answered before it was asked, because a clock jumped meanwhile, tells nothing: the next will show
        the jump. Raises ValueError where a clock goes back, or the exchange was made before the last.
        """
        seen = _seen(t0_ns, t1_ns, t2_ns, t3_ns)
        if seen is None:
            return
        if self._last is not None and seen.at_ns < self._last.at_ns:
            raise ValueError(f"an exchange of {seen.at_ns} ns comes after one of {self._last.at_ns} ns")
        if self._contradicts(seen):
            self._begin_anew()
        self._last = seen
        self._add_to_window(seen)
        law = self.law
        if law is None or seen.bound_ns <= _half(*law.between(seen.at_ns)):
            self._anchor = seen
        elif self._steady and law.at_ns < seen.at_ns - WINDOW_NS:
            self._anchor = min(self._window, key=lambda each: _half(*self._law_from(each).between(seen.at_ns)))

    @property
    def law(self) -> Law | None:
        """What is known since the last exchange; None before the first."""
        return None if self._anchor is None else self._law_from(self._anchor)

    def at(self, own_ns: int) -> Offset | None:
        """The offset at a moment of one's own clock; None before the first exchange."""
        law = self.law
        if law is None:
            return None
        low_ns, high_ns = law.between(own_ns)
        drift, drift_bound = (law.least + law.most) / 2 / _PPM, (law.most - law.least) / 2 / _PPM
        return Offset((low_ns + high_ns) // 2, _half(low_ns, high_ns), drift, drift_bound)

    def own_at(self, other_ns: int) -> int | None:
        """What the own clock reads when the other reads `other_ns`; None before the first exchange."""
        own_ns = other_ns
        for _ in range(4):  # the offset there changes by a thousandth at most of what the moment does
            offset = self.at(own_ns)
            if offset is None:
                return None
            own_ns = other_ns - offset.offset_ns
        return own_ns

    def _law_from(self, anchor: _Seen) -> Law:
        least, most = (self._drift.least - _WANDER, self._drift.most + _WANDER) if self._steady else self._drift
        return Law(*anchor, max(least, -_MOST), min(most, _MOST))

    def _contradicts(self, seen: _Seen) -> bool:
        """Whether an exchange cannot be if all that was known is true; what must have happened then is noticed."""
        law = self.law
        if law is None or self._anchor is None or self._last is None:
            return False
        low_ns, high_ns = law.between(seen.at_ns)
        if seen.offset_ns + seen.bound_ns >= low_ns and seen.offset_ns - seen.bound_ns <= high_ns:
            return False
        before = next((each for each in (self._last, self._anchor) if _jumped(each, seen)), None)
        if before is not None:
            by_ns = seen.offset_ns - (low_ns + high_ns) // 2
            self.irregularities.append(Irregularity("step", before.at_ns, seen.at_ns, by_ns))
        else:
            self._note_change(seen)
        return True

    def _begin_anew(self) -> None:
        self._window.clear()
        self._drift = _ANY_DRIFT
        self._anchor = None

    def _add_to_window(self, seen: _Seen) -> None:
        """Tell the drift from the quickest exchanges of the window."""
        window = self._window
        if not self._steady:
            return
        if window and window[-1].at_ns // BLOCK_NS == seen.at_ns // BLOCK_NS:
            if seen.bound_ns > window[-1].bound_ns:
                return
            window.pop()
        window.append(seen)
        while window[0].at_ns < seen.at_ns - WINDOW_NS:
            window.popleft()
        drift = _drift_of(window)
        if drift.least > drift.most + _WANDER:
            self._note_change(seen)
            self._begin_anew()
            window.append(seen)
        else:
            self._drift = _Drift(min(drift), max(drift))

    def _note_change(self, seen: _Seen) -> None:
        """The drift has changed, at some time of the window."""
        after_ns = self._window[0].at_ns
        before = self.irregularities[-1] if self.irregularities else None
        if before is not None and before.kind == "drift" and after_ns <= before.until_ns:
            self.irregularities.pop()
            after_ns = before.after_ns
        self.irregularities.append(Irregularity("drift", after_ns, seen.at_ns))


def compared(exchanges: Iterable[Exchange]) -> ClockComparison:
    """The comparison of exchanges that were kept."""
    comparison = ClockComparison()
    for each in exchanges:
        comparison.add(each.t0_ns, each.t1_ns, each.t2_ns, each.t3_ns)
    return comparison


def quickest(exchanges: Iterable[Exchange], each_ns: int) -> list[Exchange]:
    """Of each such time (of one's own clock) the quickest exchange, in their order."""
    by_time = itertools.groupby(exchanges, key=lambda each: each.t0_ns // each_ns)
    return [min(those, key=_round_trip_ns) for _, those in by_time]


def _seen(t0_ns: int, t1_ns: int, t2_ns: int, t3_ns: int) -> _Seen | None:
    """None where no two clocks can have made these stamps."""
    if t3_ns < t0_ns or t2_ns < t1_ns:
        raise ValueError(f"an exchange goes back in time: {t0_ns}, {t1_ns}, {t2_ns}, {t3_ns}")
    # The two limits are those of two moments, t0 and t3, each half the exchange away from its middle.
    drifted_ns = math.ceil(_MOST * (t3_ns - t0_ns) / 2)
    half_ns = ((t3_ns - t0_ns) - (t2_ns - t1_ns) + 1) // 2 + drifted_ns + 1
    if half_ns < 0:
        return None
    return _Seen((t0_ns + t3_ns) // 2, (t1_ns - t0_ns + t2_ns - t3_ns) // 2, half_ns)


def _round_trip_ns(exchange: Exchange) -> int:
    return exchange.t3_ns - exchange.t0_ns - (exchange.t2_ns - exchange.t1_ns)


def _half(low_ns: int, high_ns: int) -> int:
    return (high_ns - low_ns + 1) // 2


def _jumped(before: _Seen, seen: _Seen) -> bool:
    """Whether no drift at all leads from one to the other."""
    apart_ns = abs(seen.offset_ns - before.offset_ns) - seen.bound_ns - before.bound_ns
    return apart_ns > _MOST * (seen.at_ns - before.at_ns)


def _drift_of(window: Iterable[_Seen]) -> _Drift:
    """What any two of them allow; `least` is the greater where no one drift suits all."""
    least, most = _ANY_DRIFT
    for (at_ns, offset_ns, bound_ns), (later_ns, later_offset_ns, later_bound_ns) in itertools.combinations(window, 2):
        span_ns = later_ns - at_ns
        gained_ns, slack_ns = later_offset_ns - offset_ns, later_bound_ns + bound_ns
        if gained_ns - slack_ns > least * span_ns:
            least = (gained_ns - slack_ns) / span_ns
        if gained_ns + slack_ns < most * span_ns:
            most = (gained_ns + slack_ns) / span_ns
    return _Drift(least, most)
