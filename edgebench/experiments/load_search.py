"""The largest load that holds, sought by doubling and halving: it is supposed that no larger load holds where one does
not."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

_DIGITS = 4


@dataclass(frozen=True)
class Scale:
    """Which loads there are. whole: whole numbers alone. within: the limit is known once the next load that does not
    hold is larger by no more than this share, or by one."""

    least: float
    most: float
    whole: bool
    within: float

    def at(self, load: float) -> float:
        """The load on the scale that is next to this one."""
        near = float(round(load)) if self.whole else float(f"{load:.{_DIGITS}g}")
        return min(max(near, self.least), self.most)

    def between(self, low: float, high: float) -> float | None:
        """A load between two; None where they are near enough."""
        if high - low <= self.within * low:
            return None
        middle = self.at((low + high) / 2 if self.whole else math.sqrt(low * high))
        return middle if low < middle < high else None


@dataclass(frozen=True)
class Limit:
    """holds: the largest load that does, None where none does. fails: the next step up, None where there is none."""

    holds: float | None
    fails: float | None


def limit_of(holds: Callable[[float], bool], start: float, scale: Scale) -> Limit:
    """Seek it from a load on. holds: is asked once for each load."""
    low, high = _bracket(holds, scale.at(start), scale)
    if low is None or high is None:
        return Limit(low, high)
    while (middle := scale.between(low, high)) is not None:
        low, high = (middle, high) if holds(middle) else (low, middle)
    return Limit(low, high)


def _bracket(holds: Callable[[float], bool], load: float, scale: Scale) -> tuple[float | None, float | None]:
    """A load that holds, and a larger one that does not; twice it, or at the ends of the scale."""
    if holds(load):
        while load < scale.most:
            twice = scale.at(2 * load)
            if not holds(twice):
                return load, twice
            load = twice
        return load, None
    while load > scale.least:
        half = scale.at(load / 2) if not scale.whole else scale.at(load // 2)
        if holds(half):
            return half, load
        load = half
    return None, load


def gaps(tried: list[float], limit: float, shares: tuple[float, ...], scale: Scale) -> list[float]:
    """Loads at these shares of the limit, where none was tried that is near."""
    found: list[float] = []
    for share in shares:
        load = scale.at(share * limit)
        if not any(_near(load, other) for other in (*tried, *found)):
            found.append(load)
    return found


def _near(one: float, other: float) -> bool:
    low, high = sorted((one, other))
    return high <= 1.1 * low
