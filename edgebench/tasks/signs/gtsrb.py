"""The German Traffic Sign Recognition Benchmark, as its authors publish it and as Kaggle mirrors it.

A track is one sign that a car passes, in 30 frames; the first part of a training picture's name tells it. Which test
pictures belong to one track is not published, so each of them is a group of its own.
Source: Stallkamp et al. 2012, https://benchmark.ini.rub.de/gtsrb_dataset.html
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from edgebench.decoding import whole_number
from edgebench.errors import DataError
from edgebench.tasks.cache import Arrays, cached
from edgebench.tasks.files import listed, read_table
from edgebench.tasks.images import read_rgb
from edgebench.tasks.splits import place_of
from edgebench.tasks.task import Dataset, Split

NAME = "GTSRB"
PUBLISHED = (
    "GTSRB (Institut für Neuroinformatik, Bochum; free for research, https://benchmark.ini.rub.de/): "
    "GTSRB_Final_Training_Images.zip, GTSRB_Final_Test_Images.zip and GTSRB_Final_Test_GT.zip unpacked into GTSRB/"
)
MIRRORED = (
    "its mirror (the same pictures, free for research, "
    "https://www.kaggle.com/datasets/meowmeowmeowmeowmeow/gtsrb-german-traffic-sign): Train/, Train.csv, Test/ and "
    "Test.csv in gtsrb-kaggle/"
)
CLASSES = 43
SIDE = 32
"""Pixels of a sample, each way."""
VALID_SHARE = 0.125
"""Of the training tracks of each class, rounded up."""
_TRACKS_PER_CLASS = 100_000
_FIRST_TEST_GROUP = CLASSES * _TRACKS_PER_CLASS
_VERSION = 1
_COLUMNS = ("Width", "Height", "Roi.X1", "Roi.Y1", "Roi.X2", "Roi.Y2", "ClassId")


class _Picture(NamedTuple):
    """A row of a table. sign: left, upper, right and lower edge of the sign, as shares of the picture."""

    path: Path
    sign: tuple[float, float, float, float]
    label: int
    track: int


def load_published(folder: Path) -> Dataset:
    """`Final_Training/Images/<class>/` (or `Training/<class>/`) and `Final_Test/`, each with its tables.

    A sample is the sign alone, resized; splits are those of the authors, less the tracks that make `valid`.

    Raises DataError for an absent or broken file.
    """
    training = next(place for place in (folder / "Final_Training/Images", folder / "Training") if place.is_dir())
    tables = listed(training, "*/GT-*.csv")
    if not tables:
        raise DataError(f"{training}: no <class>/GT-<class>.csv; fetch {PUBLISHED} again")
    test = next((place for place in _test_tables(folder) if place.is_file()), None)
    if test is None:
        raise DataError(f"{folder / 'Final_Test/GT-final_test.csv'}: missing; it belongs to {PUBLISHED}")
    pictures = [p for table in tables for p in _rows(table, ";", "Filename", table.parent, tracks=True)]
    asked = list(_rows(test, ";", "Filename", folder / "Final_Test/Images", tracks=False))
    return _dataset([*tables, test], pictures, asked)


def load_mirrored(folder: Path) -> Dataset:
    """`Train.csv` and `Test.csv`, whose paths point into `Train/<class>/` and `Test/`; see `load_published`."""
    tables = [folder / "Train.csv", folder / "Test.csv"]
    for table in tables:
        if not table.is_file():
            raise DataError(f"{table}: missing; it belongs to {MIRRORED}")
    pictures = list(_rows(tables[0], ",", "Path", folder, tracks=True))
    return _dataset(tables, pictures, list(_rows(tables[1], ",", "Path", folder, tracks=False)))


def _test_tables(folder: Path) -> Iterator[Path]:
    # The table with the answers is a download of its own, and has no folder in it.
    for place in (folder / "Final_Test", folder / "Final_Test/Images", folder, folder.parent):
        yield place / "GT-final_test.csv"


def _rows(table: Path, delimiter: str, name: str, pictures: Path, *, tracks: bool) -> Iterator[_Picture]:
    with read_table(table, PUBLISHED, delimiter) as reader:
        lacking = [column for column in (name, *_COLUMNS) if column not in (reader.fieldnames or ())]
        if lacking:
            raise DataError(f"{table}: no column '{lacking[0]}'; it has to be a table of GTSRB")
        for row in reader:
            try:
                yield _picture(row, pictures / row[name], tracks=tracks)
            except (TypeError, ValueError) as error:
                raise DataError(f"{table}, line {reader.line_num}: {error}; fetch the table again") from error


def _picture(row: dict[str, str], path: Path, *, tracks: bool) -> _Picture:
    width, height, left, upper, right, lower, label = (_whole(row, column) for column in _COLUMNS)
    if width < 1 or height < 1:
        raise ValueError(f"a picture of {width} × {height}")
    # The last pixel of the region is part of it. Pictures may come resized: only shares of them count.
    sign = (left / width, upper / height, (right + 1) / width, (lower + 1) / height)
    if not (0 <= sign[0] < sign[2] <= 1 and 0 <= sign[1] < sign[3] <= 1):
        raise ValueError(f"the region of the sign is not in the picture of {width} × {height}")
    if not 0 <= label < CLASSES:
        raise ValueError(f"class {label} is none of 0 to {CLASSES - 1}")
    return _Picture(path, sign, label, _track(path) if tracks else -1)


def _whole(row: dict[str, str], column: str) -> int:
    number = whole_number(row[column] or "")
    if number is None:
        raise ValueError(f"{column} is {row[column]!r:.40}, no whole number")
    return number


def _track(path: Path) -> int:
    """As `<track>_<frame>`, after Kaggle's `<class>_`, has it; -1 where a name does not tell it."""
    *_, number, _ = (None, *path.stem.split("_"))
    track = whole_number(number or "")
    return track if track is not None and track < _TRACKS_PER_CLASS else -1


def _dataset(tables: Sequence[Path], pictures: Sequence[_Picture], asked: Sequence[_Picture]) -> Dataset:
    missing = next((p.path for p in (*pictures, *asked) if not p.path.is_file()), None)
    if missing is not None:
        raise DataError(f"{missing}: missing; its table lists it, fetch its archive again")
    untracked = next((p.path for p in pictures if p.track < 0), None)
    if untracked is not None:
        raise DataError(f"{untracked}: the name does not tell the track, as 00003_00012 would")
    if not pictures or not asked:
        raise DataError(f"{tables[0 if not pictures else -1]}: lists no pictures; fetch the table again")
    files = [*tables, *(p.path for p in pictures), *(p.path for p in asked)]
    kept = cached("gtsrb", _VERSION, files, lambda: _parsed(pictures, asked))
    label, track = kept["label"], kept["track"]
    valid = _for_valid(label, track)
    known = Split(x=kept["x"], y=label.astype(np.float32)[:, None], group=label * _TRACKS_PER_CLASS + track)
    test = Split(
        x=kept["test_x"],
        y=kept["test_label"].astype(np.float32)[:, None],
        group=_FIRST_TEST_GROUP + np.arange(len(asked), dtype=np.int64),
    )
    train, held_out = known.rows(np.flatnonzero(~valid)), known.rows(np.flatnonzero(valid))
    return Dataset(source=NAME, real=True, features=("red", "green", "blue"), train=train, valid=held_out, test=test)


def _for_valid(label: NDArray[np.int64], track: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which pictures belong to `valid`: some tracks of each class, but never its only one."""
    chosen = np.zeros(len(label), dtype=bool)
    for each in np.unique(label):
        of_class = label == each
        tracks = sorted(np.unique(track[of_class]).tolist(), key=lambda number: place_of(f"{each}/{number}"))
        count = min(math.ceil(VALID_SHARE * len(tracks)), len(tracks) - 1)
        chosen |= of_class & np.isin(track, tracks[:count])
    return chosen


def _parsed(pictures: Sequence[_Picture], asked: Sequence[_Picture]) -> Arrays:
    return {
        "x": _read(pictures),
        "label": np.array([p.label for p in pictures], np.int64),
        "track": np.array([p.track for p in pictures], np.int64),
        "test_x": _read(asked),
        "test_label": np.array([p.label for p in asked], np.int64),
    }


def _read(pictures: Sequence[_Picture]) -> NDArray[np.uint8]:
    return np.stack([read_rgb(p.path, (SIDE, SIDE), part=p.sign) for p in pictures])
