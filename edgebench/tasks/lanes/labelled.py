"""Labelled frames: pictures `N.jpg` with masks `N_inst.png`, in which each lane has a grey value of its own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgebench.errors import DataError
from edgebench.tasks.files import listed
from edgebench.tasks.lanes.generator import FEATURES
from edgebench.tasks.lanes.geometry import ABSENT, FRAME, HEIGHT, LANES, ROWS, WIDTH, labels_of
from edgebench.tasks.splits import group_of
from edgebench.tasks.task import Dataset, Split

NAME = "labelled frames with instance masks"
FOLDER = "tusimple-labelled"
MARKERS = ("*_inst.png",)
HOW_TO_GET = f"your own labelled frames, N.jpg with a mask N_inst.png (a grey value a lane), in {FOLDER}/"

_LEAST = 4
_TRAIN, _VALID = 0.5, 0.7
"""Splits are stretches of the frames in their order, since neighbours look alike."""
_FEWEST_POINTS = 2


def load(folder: Path) -> Dataset:
    """The first half of the frames to train on, a fifth to choose by, the last ones to test on; a group is a frame.

    Raises DataError for fewer than four frames, a mask without a picture, or a file that is no picture.
    """
    x, y, names = read(folder)
    if len(x) < _LEAST:
        raise DataError(f"{folder}: {len(x)} labelled frames; {_LEAST} are the fewest that can be split")
    group = np.array([group_of(name) for name in names], np.int64)
    bounds = (0, int(len(x) * _TRAIN), max(int(len(x) * _VALID), int(len(x) * _TRAIN) + 1), len(x))
    splits = {
        name: Split(x=x[low:high], y=y[low:high], group=group[low:high])
        for name, low, high in zip(("train", "valid", "test"), bounds[:-1], bounds[1:], strict=True)
    }
    return Dataset.of(splits, source=NAME, real=True, features=FEATURES)


def read(folder: Path) -> tuple[NDArray[np.uint8], NDArray[np.float32], list[str]]:
    """All frames [sample, *FRAME, 3], their labels [sample, LANES * row] and names, in the order of their numbers."""
    from edgebench.tasks.images import read_rgb

    names = [mask.name.removesuffix("_inst.png") for mask in listed(folder, "*_inst.png")]
    names.sort(key=lambda name: (len(name), name))
    for name in names:
        if not (folder / f"{name}.jpg").is_file():
            raise DataError(f"{folder / name}.jpg: missing; {name}_inst.png is its mask")
    if not names:
        raise DataError(f"{folder}: no N_inst.png; there belong {HOW_TO_GET}")
    x = np.stack([read_rgb(folder / f"{name}.jpg", FRAME) for name in names])
    return x, np.concatenate([_labels(folder / f"{name}_inst.png") for name in names]), names


def _labels(path: Path) -> NDArray[np.float32]:
    mask = _mask(path)
    height, width = mask.shape
    values = [value for value in np.unique(mask) if value]
    lanes = np.full((1, max(len(values), LANES), len(ROWS)), ABSENT, np.float32)
    rows = np.minimum(ROWS / HEIGHT * height, height - 1).astype(np.int64)
    column = np.arange(width) + 0.5
    for index, value in enumerate(values):
        here = mask[rows] == value
        count = here.sum(1)
        middle = (here * column).sum(1) / np.maximum(count, 1) * (WIDTH / width)
        lanes[0, index] = np.where(count >= _FEWEST_POINTS, middle, ABSENT)
    return labels_of(lanes)


def _mask(path: Path) -> NDArray[np.uint8]:
    from edgebench.tasks.images import opened_picture

    return np.asarray(opened_picture(path).convert("L"), np.uint8)
