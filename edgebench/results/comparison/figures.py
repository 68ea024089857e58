"""What two or more runs differ in, as typed data. docs/comparing.md says what each figure means."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

SCHEMA = 1
LEVEL = 0.95
"""Of intervals."""

Shown = Literal["higher", "lower", "no difference shown", "no interval"]
By = Literal["topology", "versions", "host", "run"]
Method = Literal["time blocks", "runs", "intervals"]


class RunCompared(msgspec.Struct, frozen=True):
    """One run. reasons: why its figures may not be trusted, where it is not valid."""

    folder: str
    run_id: str
    name: str
    seed: int
    executor: str
    figures: str
    valid: bool
    reasons: list[str]


class SideCompared(msgspec.Struct, frozen=True):
    """Runs that are taken together: name is A of the first, with which all others are compared."""

    name: str
    runs: list[RunCompared]


class SettingDifference(msgspec.Struct, frozen=True):
    """Something that is not the same on all sides. values: by side, without those that lack it; a list of those of its
    runs where these differ. places: how many nodes, or links, of the groups that the path names differ like this."""

    path: str
    values: dict[str, Any]
    places: int = 1


class FigureDifference(msgspec.Struct, frozen=True):
    """A figure on two sides, each the mean of its runs; None where it is not known. difference: other - first.

    interval: of the difference; None where nothing tells how far chance goes, for which `why` is the reason. by: what
    it comes from. blocks_s: how long the blocks of time are that were drawn, of either side. narrow: what went on in
    the run hangs together for longer than that, so that the true interval is wider.
    """

    figure: str
    first: float | None
    other: float | None
    difference: float | None
    percent: float | None
    interval: tuple[float, float] | None
    shown: Shown
    by: Method | None = None
    why: str = ""
    blocks_s: tuple[float, float] | None = None
    narrow: bool = False


class Comparison(msgspec.Struct, frozen=True):
    """What runs differ in. sides_by: what tells the sides apart. only: what has figures on some sides alone -> these.

    against: by the name of each side but the first, its figures beside those of the first.
    """

    schema: int
    level: float
    resamples: int
    sides_by: By
    sides: list[SideCompared]
    topology: list[SettingDifference]
    versions: list[SettingDifference]
    host: list[SettingDifference]
    only: dict[str, list[str]]
    against: dict[str, list[FigureDifference]]
