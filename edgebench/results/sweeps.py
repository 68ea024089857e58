"""What came of the cells of a sweep, as typed data; its table, and what is best."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np

from edgebench.results.comparison.resampling import of_mean
from edgebench.results.comparison.settings import key_of
from edgebench.results.stats import rounded

Settings = dict[str, Any]
Best = Literal["lowest", "highest"]


class Cell(msgspec.Struct, frozen=True):
    """One run of a sweep, or what came in its way. key: of all that decides what is run. run: its directory.

    state: `failed` where there are no figures; `invalid` where there are, which are not to be trusted; `problem` says
    why. values: its figures by their path. figures: `measured`, `emulated` or `modelled`, see `Result`; None where
    there are none.
    """

    key: str
    settings: Settings
    seed: int
    state: Literal["valid", "invalid", "failed"]
    run: str | None
    problem: str
    values: dict[str, float | None]
    figures: str | None = None


class Ranked(msgspec.Struct, frozen=True):
    """Settings, and how good they are: the mean of the valid cells, which differ in their seeds, with its 95 %
    interval, which is None of one cell. valid, invalid, failed: so many cells; unscored: valid ones without the
    figure, which are not among `valid`. figures: what those of its valid cells are, see `kind_of`."""

    settings: Settings
    mean: float | None
    interval: tuple[float, float] | None
    valid: int
    invalid: int
    failed: int
    unscored: int = 0
    figures: str | None = None


def leaderboard(cells: Sequence[Cell], figure: str, best: Best) -> list[Ranked]:
    """The settings of cells, best first; those without a valid cell last."""
    by_settings: dict[bytes, list[Cell]] = {}
    for cell in cells:
        by_settings.setdefault(key_of(cell.settings), []).append(cell)
    sign = 1 if best == "lowest" else -1
    ranked = [_ranked(alike, figure) for alike in by_settings.values()]
    return sorted(ranked, key=lambda each: (each.mean is None, sign * (each.mean or 0.0)))


def mean_by_settings(cells: Sequence[Cell], figure: str) -> dict[bytes, tuple[Settings, float]]:
    """The means of a figure over valid cells that differ in their seeds alone, by a key of the settings."""
    found: dict[bytes, tuple[Settings, list[float]]] = {}
    for cell in cells:
        value = cell.values.get(figure)
        if cell.state == "valid" and value is not None:
            found.setdefault(key_of(cell.settings), (cell.settings, []))[1].append(value)
    return {key: (settings, rounded(float(np.mean(values)))) for key, (settings, values) in found.items()}


def kinds_of(cells: Iterable[Cell]) -> str:
    """How many cells have figures of each kind, in words; empty where none has any."""
    kinds = Counter(cell.figures for cell in cells if cell.figures is not None)
    return ", ".join(f"{number:,} {kind}" for kind, number in kinds.items())


def kind_of(cells: Iterable[Cell]) -> str | None:
    """What the figures of the valid cells are, which may be of several kinds; None where there are none."""
    kinds = {cell.figures for cell in cells if cell.state == "valid" and cell.figures is not None}
    return " and ".join(sorted(kinds)) or None


def _ranked(alike: Sequence[Cell], figure: str) -> Ranked:
    states = Counter(cell.state for cell in alike)
    found = [cell.values.get(figure) for cell in alike if cell.state == "valid"]
    known = [value for value in found if value is not None]
    interval = of_mean(known)
    return Ranked(
        settings=alike[0].settings,
        mean=rounded(float(np.mean(known))) if known else None,
        interval=None if interval is None else (rounded(interval[0]), rounded(interval[1])),
        valid=len(known),
        invalid=states["invalid"],
        failed=states["failed"],
        unscored=len(found) - len(known),
        figures=kind_of(alike),
    )


def write_table(path: Path, cells: Sequence[Cell]) -> None:
    """Write a row a cell, atomically: settings as text, seed, state, what its figures are, problem, run and key, then
    every figure."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns: dict[str, Any] = {}
    for name in dict.fromkeys(name for cell in cells for name in cell.settings):
        columns[name] = pa.array([shown(cell.settings[name]) if name in cell.settings else None for cell in cells])
    texts = ("state", "figures", "problem", "run", "key")
    for name, kind in (("seed", pa.int64()), *((name, pa.string()) for name in texts)):
        columns[name] = pa.array([getattr(cell, name) for cell in cells], kind)
    for name in dict.fromkeys(name for cell in cells for name in cell.values):
        columns[name] = pa.array([cell.values.get(name) for cell in cells], pa.float64())
    part = path.with_name(path.name + ".part")
    pq.write_table(pa.table(columns), part, compression="zstd")
    part.replace(path)


def shown(value: Any) -> str:
    """A setting as text."""
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


def in_words(settings: Settings) -> str:
    """Settings in a line."""
    return ", ".join(f"{path}={shown(value)}" for path, value in settings.items()) or "as it is"
