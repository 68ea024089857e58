"""The layout of the MIMIC-III benchmark: a `listfile.csv` and a `*_timeseries.csv` a stay, 76 features.

Source: Harutyunyan et al. 2019, https://github.com/YerevaNN/mimic3-benchmarks, which builds it from
MIMIC-III (credentialed access, https://physionet.org/content/mimiciii/).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgebench.errors import DataError
from edgebench.seeds import rng_for
from edgebench.tasks.cache import cached
from edgebench.tasks.files import finite, read_table
from edgebench.tasks.icu.features import last_steps
from edgebench.tasks.icu.generator import Outcome
from edgebench.tasks.icu.published import (
    NORMAL,
    STEPS,
    VARIABLES,
    Variable,
    carried_forward,
    encode,
    feature_names,
)
from edgebench.tasks.splits import SplitName, group_of, share_of
from edgebench.tasks.task import Dataset, Split

NAME = "MIMIC-III benchmark"
FOLDERS: dict[Outcome, str] = {
    "death": "in-hospital-mortality",
    "decompensation": "decompensation",
    "heart-failure": "phenotyping",
}
MARKERS = ("train/listfile.csv", "test/listfile.csv")
HOW_TO_GET = (
    "the MIMIC-III benchmark (credentialed access, https://physionet.org/content/mimiciii/, built with "
    "https://github.com/YerevaNN/mimic3-benchmarks)"
)

_MEND = f"build {HOW_TO_GET} again"

LIMIT = 20_000
"""Samples of a split at most, a fixed random choice: decompensation lists millions, 14.6 kB each."""

_LABELS: dict[Outcome, str] = {
    "death": "y_true",
    "decompensation": "y_true",
    "heart-failure": "Congestive heart failure; nonhypertensive",
}
_VERSION = 1
_VALID_SHARE = 0.15
_MOST_HOURS = 10_000.0
"""Of a stay, more than a year: what is beyond is no hour but a mistake, and would take its memory."""


@dataclass(frozen=True)
class _Row:
    file: Path
    subject: str
    end_h: int
    """The question is put after this hour of the stay."""
    label: bool


def load(folder: Path, outcome: Outcome) -> Dataset:
    """A sample is float32 [48, 76]: the first 48 hours, for decompensation the last 48 of the listed period.

    `val_listfile.csv` names the validation split where there is one; else 15 % of the training patients are
    held out. Hours before admission hold normal values, not measured.

    Raises DataError for an absent or broken file, and for a patient listed in train and in test.
    """
    train = _rows(folder, "train", folder / "train" / "listfile.csv", outcome)
    test = _rows(folder, "test", folder / "test" / "listfile.csv", outcome)
    shared = {row.subject for row in train} & {row.subject for row in test}
    if shared:
        raise DataError(f"{folder}: patient {min(shared)} is listed in train and in test; build {HOW_TO_GET} again")
    held_out = _held_out(folder, train, outcome)
    splits = {
        "train": [row for row in train if row.subject not in held_out],
        "valid": [row for row in train if row.subject in held_out],
        "test": test,
    }
    read = {name: _split(name, rows, folder, outcome) for name, rows in splits.items()}
    return Dataset.of(read, source=NAME, real=True, features=feature_names())


def _held_out(folder: Path, train: list[_Row], outcome: Outcome) -> set[str]:
    listed = folder / "val_listfile.csv"
    if listed.exists():
        return {row.subject for row in _rows(folder, "train", listed, outcome)}
    subjects = sorted({row.subject for row in train})
    return {s for s, held in zip(subjects, share_of(subjects, 0.0, _VALID_SHARE), strict=True) if held}


def _rows(folder: Path, part: SplitName, listfile: Path, outcome: Outcome) -> list[_Row]:
    label = _LABELS[outcome]
    needed = ["stay", label, *(["period_length"] if outcome == "decompensation" else [])]
    rows = []
    with read_table(listfile, HOW_TO_GET) as reader:
        lacking = [name for name in needed if name not in (reader.fieldnames or [])]
        if lacking:
            raise DataError(
                f"{listfile}: no column '{lacking[0]}', so not the listfile of {FOLDERS[outcome]} of {HOW_TO_GET}"
            )
        for row in reader:
            where = f"{listfile}, line {reader.line_num}"
            stay = row["stay"]
            if not stay:
                raise DataError(f"{where}: no stay is named; {_MEND}")
            end_h = STEPS
            if outcome == "decompensation":
                end_h = int(_hours(where, "period_length", row["period_length"]))
                if end_h < 1:
                    raise DataError(f"{where}: period_length is {row['period_length']!r}, no hour; {_MEND}")
            answer = finite(row[label], label, where, _MEND)
            rows.append(_Row(folder / part / stay, stay.split("_")[0], end_h, answer > 0))
    return rows


def _split(name: str, rows: list[_Row], folder: Path, outcome: Outcome) -> Split:
    if not rows:
        raise DataError(f"{folder}: no {name} patients; build {HOW_TO_GET} whole")
    if len(rows) > LIMIT:
        rows = [rows[i] for i in rng_for(0, "mimic3", name).choice(len(rows), LIMIT, replace=False)]
    rows = sorted(rows, key=lambda row: (group_of(row.subject), row.file.name, row.end_h))
    missing = next((row.file for row in rows if not row.file.exists()), None)
    if missing is not None:
        raise DataError(f"{missing}: missing, though listed; build {HOW_TO_GET} again")
    files = sorted({row.file for row in rows})
    listed = [folder / part / "listfile.csv" for part in ("train", "test")]
    validation = [path for path in (folder / "val_listfile.csv",) if path.exists()]
    kept = cached(f"mimic3-{outcome}-{name}", _VERSION, [*listed, *validation, *files], lambda: _parse(rows))
    return Split(
        x=encode(kept["value"], kept["measured"]),
        y=np.array([row.label for row in rows], np.float32)[:, None],
        group=np.array([group_of(row.subject) for row in rows], np.int64),
    )


def _parse(rows: list[_Row]) -> dict[str, NDArray[Any]]:
    """`value` float32 and `measured` bool, both [sample, 48, 17]; rows of one file stand together."""
    value = np.empty((len(rows), STEPS, len(VARIABLES)), np.float32)
    measured = np.empty(value.shape, bool)
    nothing = np.zeros(len(VARIABLES), bool)
    opened: Path | None = None
    for index, row in enumerate(rows):
        if row.file != opened:
            grid, opened = _grid(row.file), row.file
        until = _until(grid, row.end_h)
        value[index] = last_steps(carried_forward(until[None], NORMAL)[0], NORMAL, row.end_h)
        measured[index] = last_steps(np.isfinite(until), nothing, row.end_h)
    return {"value": value, "measured": measured}


def _until(grid: NDArray[np.float32], end_h: int) -> NDArray[np.float32]:
    """The hours of a stay up to `end_h`; those after its last row hold nothing measured."""
    lacking = max(0, end_h - len(grid))
    return np.concatenate([grid[:end_h], np.full((lacking, grid.shape[1]), np.nan, np.float32)])


def _grid(file: Path) -> NDArray[np.float32]:
    """The last value of each hour, [hour, 17]; NaN where nothing was measured."""
    with read_table(file, HOW_TO_GET) as reader:
        lacking = [v.name for v in VARIABLES if v.name not in (reader.fieldnames or [])]
        if lacking or "Hours" not in (reader.fieldnames or []):
            raise DataError(f"{file}: no column '{[*lacking, 'Hours'][0]}'; build {HOW_TO_GET} again")
        measured = [(_hours(f"{file}, line {reader.line_num}", "Hours", row["Hours"]), row) for row in reader]
    last = max((hour for hour, _ in measured), default=0.0)
    grid = np.full((int(max(last, 0)) + 1, len(VARIABLES)), np.nan, np.float32)
    for hour, row in sorted(measured, key=lambda pair: pair[0]):
        if hour < 0:
            continue
        for index, variable in enumerate(VARIABLES):
            number = _number(variable, row[variable.name])
            if number is not None:
                grid[int(hour), index] = number
    return grid


def _hours(where: str, name: str, text: str | None) -> float:
    hours = finite(text, name, where, _MEND)
    if abs(hours) > _MOST_HOURS:
        raise DataError(f"{where}: {name} is {text!r}, no number of hours; {_MEND}")
    return hours


def _number(variable: Variable, text: str | None) -> float | None:
    """A value, or the index of a category; None for what is empty, or not of the variable."""
    text = (text or "").strip()
    if not text:
        return None
    if text in variable.categories:
        return float(variable.categories.index(text))
    try:
        value = float(text)
    except ValueError:
        return None
    if variable.categories:
        # The score 15 is also written 15.0.
        same = [
            i for i, category in enumerate(variable.categories) if _is_number(category) and float(category) == value
        ]
        return float(same[0]) if same else None
    return value if variable.low <= value <= variable.high else None


def _is_number(text: str) -> bool:
    return text.replace(".", "", 1).isdigit()
