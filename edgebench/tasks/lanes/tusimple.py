"""The TuSimple lane benchmark: labels in JSON, a line a frame, and the frames beside them in `clips/`.

Where there are labels and no `clips/`, frames are drawn from their geometry, and the data set says so.
Source: https://github.com/TuSimple/tusimple-benchmark (Apache-2.0).
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import msgspec
import numpy as np
from numpy.typing import NDArray

from edgebench.decoding import from_json, whole_number
from edgebench.errors import DataError
from edgebench.tasks.cache import cached
from edgebench.tasks.files import MOST, holds, listed, read_lines
from edgebench.tasks.lanes import labelled
from edgebench.tasks.lanes.drawing import draw
from edgebench.tasks.lanes.generator import FEATURES
from edgebench.tasks.lanes.geometry import ABSENT, FRAME, ROWS, labels_of
from edgebench.tasks.splits import group_of
from edgebench.tasks.task import Dataset, Split

NAME = "TuSimple"
DRAWN = "drawn from the real TuSimple geometry"
FOLDER = "tusimple"
MARKERS = ("label_data*.json", "train_set/label_data*.json")
HOW_TO_GET = (
    "the TuSimple lane benchmark (Apache-2.0, https://github.com/TuSimple/tusimple-benchmark): its label_data*.json, "
    f"test_label.json and clips/ in {FOLDER}/; without clips/ frames are drawn from the labels' geometry"
)

_VALID = "0531"
"""The recording that is held out of the training labels, as is usual."""
_SHOWN_RECORDING, _SHOWN_S = "0601", range(1_494_453_487, 1_494_453_538)
"""When the six labelled photographs that circulate with the set were taken, and ten seconds before and after. A clip is
named by its time in ns."""
_LABELLED = "real labelled frames"
_TRAINING, _TEST = "label_data*.json", "test_label*.json"
_DRAWING_SEED = 0
_VERSION = 1


class _Line(msgspec.Struct, frozen=True):
    """A line of the labels: a frame. lanes: x at each of `h_samples`, negative where the lane is not."""

    lanes: list[list[Annotated[float, msgspec.Meta(ge=-MOST, le=MOST)]]]
    h_samples: list[int]
    raw_file: str

    @property
    def recording(self) -> str:
        return self.raw_file.split("/")[1]


@dataclass(frozen=True)
class Labels:
    """Of one split: labels [sample, LANES * row], and each frame's file (below its set's folder)."""

    labels: NDArray[np.float32]
    files: Sequence[str]

    @property
    def clips(self) -> list[str]:
        """The folder of each frame."""
        return [file.rpartition("/")[0] for file in self.files]

    @property
    def recordings(self) -> list[str]:
        """The drive of each frame."""
        return [file.split("/")[1] for file in self.files]


def load(folder: Path) -> Dataset:
    """Train and valid of `label_data*.json` (valid is recording 0531), test of `test_label.json`; a group is a clip.

    The natural key is the recording's number. Drawn frames are the same whatever the seed. Where frames are drawn,
    the stretch that the labelled photographs in circulation show is not learned from, and photographs in a folder
    beside this one are a further test set.

    Raises DataError for an absent or broken file.
    """
    labels, places = read_labels(folder), _places(folder)
    real = any((place / "clips").is_dir() for place in places)
    pictures = {name: [_picture(places, file) for file in labels[name].files] for name in labels} if real else {}
    files = [*_files(places, _TRAINING), *_files(places, _TEST), *itertools.chain(*pictures.values())]

    def frames() -> dict[str, NDArray[np.uint8]]:
        if real:
            return {name: _read(paths) for name, paths in pictures.items()}
        return {name: draw(found.labels, seed=_DRAWING_SEED, purpose=name) for name, found in labels.items()}

    kept = cached("tusimple" if real else "tusimple-drawn", _VERSION, files, frames)
    splits = {name: _split(found, kept[name]) for name, found in labels.items()}
    if not real:
        unlike = np.array([not _shows(file) for file in labels["train"].files])
        splits["train"] = splits["train"].rows(np.flatnonzero(unlike))
    beside: dict[str, Split] = {}
    photographs = folder.parent / labelled.FOLDER
    if not real and holds(photographs, labelled.MARKERS[0]):
        x, y, names = labelled.read(photographs)
        group = np.array([group_of(name) for name in names], np.int64)
        beside[f"{len(x)} {_LABELLED}"] = Split(x=x, y=y, group=group)
    source = NAME if real else DRAWN
    return Dataset.of(splits, source=source, real=real, features=FEATURES, natural_key="recording", beside=beside)


def _shows(file: str) -> bool:
    """Whether a frame was taken where and when the labelled ones were."""
    _, recording, clip, *_ = file.split("/")
    at_ns = whole_number(clip)
    return recording == _SHOWN_RECORDING and at_ns is not None and at_ns // 1_000_000_000 in _SHOWN_S


def read_labels(folder: Path) -> dict[str, Labels]:
    """The labels of `train`, `valid` and `test`. Raises DataError for an absent or broken file."""
    places = _places(folder)
    test = _files(places, _TEST)
    if not test:
        raise DataError(f"{folder / 'test_label.json'}: missing; it belongs to {HOW_TO_GET}")
    training = [line for file in _files(places, _TRAINING) for line in _lines(file)]
    lines = {
        "train": [line for line in training if line.recording != _VALID],
        "valid": [line for line in training if line.recording == _VALID],
        "test": [line for file in test for line in _lines(file)],
    }
    for name, found in lines.items():
        if not found:
            raise DataError(f"{folder}: no frames for the split {name} in its labels; fetch {HOW_TO_GET} whole")
    return {name: Labels(_labels(found), [line.raw_file for line in found]) for name, found in lines.items()}


def _places(folder: Path) -> list[Path]:
    """As downloaded, the training set and the test set are two folders."""
    return [place for place in (folder, folder / "train_set", folder / "test_set") if place.is_dir()]


def _files(places: Sequence[Path], pattern: str) -> list[Path]:
    return sorted(path for place in places for path in listed(place, pattern))


def _lines(file: Path) -> Iterator[_Line]:
    known = set(ROWS.astype(int).tolist())
    for number, text in read_lines(file, HOW_TO_GET):
        where = f"{file}: line {number}"
        try:
            line = from_json(text.encode(), _Line)
        except msgspec.DecodeError as error:
            raise DataError(f"{where}: {error}; fetch it again") from error
        if any(len(lane) != len(line.h_samples) for lane in line.lanes):
            raise DataError(f"{where}: a lane has not as many points as h_samples; fetch it again")
        if not known.issuperset(line.h_samples):
            raise DataError(f"{where}: h_samples are not of {ROWS[0]:.0f} to {ROWS[-1]:.0f} by tens; fetch it again")
        if line.raw_file.count("/") < 2:
            raise DataError(f"{where}: raw_file '{line.raw_file}' is not clips/RECORDING/…; fetch it again")
        if _key(line.recording) is None:
            raise DataError(f"{where}: recording '{line.recording}' has a number beyond 64 bits; fetch it again")
        yield line


def _picture(places: Sequence[Path], file: str) -> Path:
    for place in places:
        if (place / file).is_file():
            return place / file
    raise DataError(f"{places[0] / file}: missing; it belongs to {HOW_TO_GET}")


def _read(paths: Sequence[Path]) -> NDArray[np.uint8]:
    from edgebench.tasks.images import read_rgb

    return np.stack([read_rgb(path, FRAME) for path in paths])


def _labels(lines: Sequence[_Line]) -> NDArray[np.float32]:
    most = max(len(line.lanes) for line in lines)
    lanes = np.full((len(lines), max(most, 1), len(ROWS)), ABSENT, np.float32)
    for index, line in enumerate(lines):
        rows = (np.array(line.h_samples, np.int64) - int(ROWS[0])) // int(ROWS[1] - ROWS[0])
        for lane, x in enumerate(line.lanes):
            lanes[index, lane, rows] = x
    return labels_of(lanes)


def _split(found: Labels, x: NDArray[np.uint8]) -> Split:
    return Split(
        x=x,
        y=found.labels,
        group=np.array([group_of(clip) for clip in found.clips], np.int64),
        key=np.array([_key(name) for name in found.recordings], np.int64),
    )


def _key(recording: str) -> int | None:
    """The digits of a recording's name as a number, 0 where it has none; None where they are too many."""
    return whole_number(re.sub("[^0-9]", "", recording) or "0")
