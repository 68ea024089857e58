"""The Free Spoken Digit Dataset: the digits zero to nine, said 50 times each by every speaker, 8 kHz.

Source: Jackson et al., github.com/Jakobovski/free-spoken-digit-dataset. Takes 0–4 are the test split as published; of
the others, takes 5–9 are held out to choose by.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from edgebench.decoding import whole_number
from edgebench.errors import DataError
from edgebench.tasks.cache import Arrays, cached
from edgebench.tasks.files import listed
from edgebench.tasks.speech.audio import read_sound, windowed
from edgebench.tasks.speech.features import RATE_HZ
from edgebench.tasks.speech.transcripts import encode
from edgebench.tasks.splits import SplitName, group_of
from edgebench.tasks.task import Dataset, Split

NAME = "Free Spoken Digit Dataset"
FOLDER = "fsdd"
MARKERS = ("recordings/[0-9]_*_*.wav", "[0-9]_*_*.wav")
HOW_TO_GET = (
    "the Free Spoken Digit Dataset (CC BY-SA 4.0, https://github.com/Jakobovski/free-spoken-digit-dataset): its "
    "recordings/ in fsdd/"
)
WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
WINDOW_S = 1.0
"""99 in 100 recordings are shorter; the others end in silence or a drawn-out sound, and are cut."""

_VERSION = 1
_FILE = re.compile(r"([0-9])_(.+)_([0-9]+)\.wav")
_TAKES: dict[SplitName, range] = {"test": range(5), "valid": range(5, 10)}


def load(folder: Path) -> Dataset:
    """The data set in `folder`, or in its `recordings/`. Raises DataError with the file and the mend."""
    place = folder / "recordings" if (folder / "recordings").is_dir() else folder
    files = [path for path in listed(place, "*.wav") if _FILE.fullmatch(path.name)]
    if not files:
        raise DataError(f"{place}: no recordings named DIGIT_SPEAKER_TAKE.wav; get {HOW_TO_GET}")
    arrays = cached("fsdd", _VERSION, files, lambda: _parsed(files))
    splits = {name: _split(arrays, name, place) for name in ("train", "valid", "test")}
    return Dataset(NAME, True, ("sound",), splits["train"], splits["valid"], splits["test"], natural_key="speaker")


def _parsed(files: list[Path]) -> Arrays:
    named = [match.groups() for match in map(_FILE.fullmatch, (path.name for path in files)) if match]
    for path, (*_, take) in zip(files, named, strict=True):
        if whole_number(take) is None:
            raise DataError(f"{path}: the number of its take is beyond 64 bits; rename or remove it")
    speakers = sorted({speaker for _, speaker, _ in named})
    return {
        "x": windowed([read_sound(path) for path in files], round(WINDOW_S * RATE_HZ)),
        "y": encode([WORDS[int(digit)] for digit, _, _ in named]),
        "take": np.array([int(take) for _, _, take in named], np.int64),
        "group": np.array([group_of(f"{speaker} {take}") for _, speaker, take in named], np.int64),
        "key": np.array([speakers.index(speaker) for _, speaker, _ in named], np.int64),
    }


def _split(arrays: Arrays, name: SplitName, place: Path) -> Split:
    held_out = [take for takes in _TAKES.values() for take in takes]
    of_split = np.isin(arrays["take"], _TAKES[name]) if name in _TAKES else ~np.isin(arrays["take"], held_out)
    rows = np.flatnonzero(of_split)
    if not len(rows):
        takes = f"takes {_TAKES[name][0]} to {_TAKES[name][-1]}" if name in _TAKES else "take above 9"
        raise DataError(f"{place}: no recording of {takes}, the split {name}; get all of {HOW_TO_GET}")
    return Split(arrays["x"], arrays["y"], arrays["group"], arrays["key"]).rows(rows)
