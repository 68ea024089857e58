"""The TuSimple lane benchmark: labels in JSON, a line a frame, and the frames beside them in `clips/`.

Where there are labels and no `clips/`, frames are drawn from their geometry, and the data set says so.
Source: https://github.com/TuSimple/tusimple-benchmark (Apache-2.0).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from edgebench.errors import DataError
from edgebench.tasks.cache import cached
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
_DRAWING_SEED = 0
_VERSION = 1


class _Frame(msgspec.Struct, frozen=True):
    """A line of the labels. lanes: x at each of `h_samples`, negative where the lane is not."""

    lanes: list[list[float]]
    h_samples: list[int]
    raw_file: str

    @property
    def clip(self) -> str:
        return self.raw_file.rpartition("/")[0]

    @property
    def recording(self) -> str:
        return self.raw_file.split("/")[1]


def load(folder: Path) -> Dataset:
    """Train and valid of `label_data*.json` (valid is recording 0531), test of `test_label.json`; a group is a clip.

    The natural key is the recording's number. Drawn frames are the same whatever the seed.

    Raises DataError for an absent or broken file.
    """
    # As downloaded, the training set and the test set are two folders.
    places = [place for place in (folder, folder / "train_set", folder / "test_set") if place.is_dir()]
    training = _files(places, "label_data*.json")
    test = _files(places, "test_label*.json")
    if not test:
        raise DataError(f"{folder / 'test_label.json'}: missing; it belongs to {HOW_TO_GET}")
    frames = {"train": [frame for file in training for frame in _frames(file)]}
    frames["valid"] = [frame for frame in frames["train"] if frame.recording == _VALID]
    frames["train"] = [frame for frame in frames["train"] if frame.recording != _VALID]
    frames["test"] = [frame for file in test for frame in _frames(file)]
    for name, found in frames.items():
        if not found:
            raise DataError(f"{training[0]}: no frames to {name} on; fetch {HOW_TO_GET} whole")
    real = any((place / "clips").is_dir() for place in places)
    pictures = [_picture(places, frame) for found in frames.values() for frame in found] if real else []
    kept = cached(
        "tusimple" if real else "tusimple-drawn",
        _VERSION,
        [*training, *test, *pictures],
        lambda: _parsed(frames, pictures),
    )
    splits = {name: _split(found, name, kept) for name, found in frames.items()}
    return Dataset(
        source=NAME if real else DRAWN, real=real, features=FEATURES, natural_key="recording", **splits
    )


def _files(places: Sequence[Path], pattern: str) -> list[Path]:
    return sorted(path for place in places for path in place.glob(pattern))


def _frames(file: Path) -> Iterator[_Frame]:
    known = set(ROWS.astype(int).tolist())
    for number, line in enumerate(file.read_bytes().splitlines(), start=1):
        if not line.strip():
            continue
        try:
            frame = msgspec.json.decode(line, type=_Frame)
        except msgspec.DecodeError as error:
            raise DataError(f"{file}: line {number}: {error}; fetch it again") from error
        if any(len(lane) != len(frame.h_samples) for lane in frame.lanes):
            raise DataError(f"{file}: line {number}: a lane has not as many points as h_samples; fetch it again")
        if not known.issuperset(frame.h_samples):
            raise DataError(f"{file}: line {number}: h_samples are not of {ROWS[0]:.0f} to {ROWS[-1]:.0f} by tens")
        if frame.raw_file.count("/") < 2:
            raise DataError(f"{file}: line {number}: raw_file '{frame.raw_file}' is not clips/RECORDING/…; fetch it again")
        yield frame


def _picture(places: Sequence[Path], frame: _Frame) -> Path:
    for place in places:
        if (place / frame.raw_file).is_file():
            return place / frame.raw_file
    raise DataError(f"{places[0] / frame.raw_file}: missing; it belongs to {HOW_TO_GET}")


def _parsed(frames: Mapping[str, Sequence[_Frame]], pictures: Sequence[Path]) -> dict[str, NDArray[Any]]:
    arrays: dict[str, NDArray[Any]] = {}
    remaining = iter(pictures)
    for name, found in frames.items():
        labels = _labels(found)
        arrays[f"{name}-y"] = labels
        if pictures:
            from edgebench.tasks.images import read_rgb

            arrays[f"{name}-x"] = np.stack([read_rgb(next(remaining), FRAME) for _ in found])
        else:
            arrays[f"{name}-x"] = draw(labels, seed=_DRAWING_SEED, purpose=name)
    return arrays


def _labels(frames: Sequence[_Frame]) -> NDArray[np.float32]:
    most = max(len(frame.lanes) for frame in frames)
    lanes = np.full((len(frames), max(most, 1), len(ROWS)), ABSENT, np.float32)
    for index, frame in enumerate(frames):
        rows = (np.array(frame.h_samples, np.int64) - int(ROWS[0])) // int(ROWS[1] - ROWS[0])
        if frame.lanes:
            lanes[index, : len(frame.lanes), rows] = np.array(frame.lanes, np.float32).T
    return labels_of(lanes)


def _split(frames: Sequence[_Frame], name: str, kept: Mapping[str, NDArray[Any]]) -> Split:
    return Split(
        x=kept[f"{name}-x"],
        y=kept[f"{name}-y"],
        group=np.array([group_of(frame.clip) for frame in frames], np.int64),
        key=np.array([int(re.sub(r"\D", "", frame.recording) or 0) for frame in frames], np.int64),
    )
