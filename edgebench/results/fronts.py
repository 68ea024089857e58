"""What several settings of a sweep come to together: which are not beaten in all figures at once, and where one stops
being better than another."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import msgspec
import numpy as np

from edgebench.results.comparison.settings import key_of
from edgebench.results.stats import rounded
from edgebench.results.sweeps import Best, Cell, Ranked, Settings, kind_of, mean_by_settings


class OnFront(msgspec.Struct, frozen=True):
    """Settings, and the means of their figures over seeds. on_front: no other settings are at least as good in all
    figures, and better in one. figures: what they are, see `kind_of`."""

    settings: Settings
    values: dict[str, float]
    on_front: bool
    figures: str | None = None


class Crossing(msgspec.Struct, frozen=True):
    """Where one of two values of a setting stops being the better one as another setting grows. settings: all else.

    below, above: the value that is best on either side. at: by linear interpolation of their difference, along the
    logarithm where the setting is positive; None where one of the two has no figure on the other side. low, high: the
    settings that were run on either side of it.
    """

    settings: Settings
    below: Any
    above: Any
    at: float | None
    low: float
    high: float


class Swept(msgspec.Struct, frozen=True):
    """A sweep that is over. table: a Parquet file with a row a cell. figure: what `leaderboard` is ranked by, best
    first; None where the sweep names none. front, crossings: empty where it asks for none. notes: why a run that says
    what things take should not be trusted."""

    folder: str
    table: str
    cells: list[Cell]
    figure: str | None
    leaderboard: list[Ranked]
    front: list[OnFront] = []
    crossings: list[Crossing] = []
    notes: list[str] = []


def front(cells: Sequence[Cell], figures: Mapping[str, Best]) -> list[OnFront]:
    """The settings that have all of these figures, in the order of the first."""
    means = {figure: mean_by_settings(cells, figure) for figure in figures}
    keys = [key for key in next(iter(means.values()), {}) if all(key in of for of in means.values())]
    alike: dict[bytes, list[Cell]] = {}
    for cell in cells:
        alike.setdefault(key_of(cell.settings), []).append(cell)
    signed = {
        key: tuple((1 if best == "lowest" else -1) * means[figure][key][1] for figure, best in figures.items())
        for key in keys
    }
    found = [
        OnFront(
            settings=next(iter(means.values()))[key][0],
            values={figure: means[figure][key][1] for figure in figures},
            on_front=not any(_beats(signed[other], signed[key]) for other in keys),
            figures=kind_of(alike[key]),
        )
        for key in keys
    ]
    first = next(iter(figures), "")
    return sorted(found, key=lambda each: each.values[first])


def _beats(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    return one != other and all(mine <= theirs for mine, theirs in zip(one, other, strict=True))


def crossings(cells: Sequence[Cell], figure: str, best: Best, along: str, between: str) -> list[Crossing]:
    """Where the best value of `between` changes as `along`, a number, grows; for each of the other settings."""
    sign = 1 if best == "lowest" else -1
    groups: dict[bytes, tuple[Settings, dict[float, dict[bytes, tuple[Any, float]]]]] = {}
    for settings, mean in mean_by_settings(cells, figure).values():
        if along in settings and between in settings:
            rest = {path: value for path, value in settings.items() if path not in (along, between)}
            _, by_place = groups.setdefault(key_of(rest), (rest, {}))
            value = settings[between]
            by_place.setdefault(float(settings[along]), {})[key_of(value)] = (value, sign * mean)
    found = []
    for rest, by_place in groups.values():
        for (low, before), (high, after) in pairwise(sorted(by_place.items())):
            first, second = (min(sorted(at), key=lambda key: at[key][1]) for at in (before, after))
            if first != second:
                root = None
                if second in before and first in after:
                    root = _root(low, high, [at[second][1] - at[first][1] for at in (before, after)])
                found.append(Crossing(rest, before[first][0], after[second][0], root, low, high))
    return found


def _root(low: float, high: float, gaps: Sequence[float]) -> float:
    """Where a gap that is positive at `low`, and not at `high`, is zero."""
    share = gaps[0] / (gaps[0] - gaps[1])
    if low > 0:
        return rounded(math.exp(np.interp(share, (0, 1), (math.log(low), math.log(high)))))
    return rounded(low + share * (high - low))
