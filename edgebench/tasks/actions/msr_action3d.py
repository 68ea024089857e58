"""MSR-Action3D: 20 actions of 10 people before a depth camera, as skeletons in text files.

Source: Li, Zhang, Liu 2010, "Action recognition based on a bag of 3D points". Cross-subject, as most of the literature
has it: people 1, 3, 5, 7 and 9 to learn from, of whom `_VALID` is held out, the others to test on.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgebench.errors import DataError
from edgebench.tasks.actions.skeletons import JOINTS, normalised, to_bytes
from edgebench.tasks.cache import Arrays, cached
from edgebench.tasks.files import MOST, finite, listed, read_lines
from edgebench.tasks.task import Dataset, Split

NAME = "MSR-Action3D"
FOLDER = "msr-action3d"
_FILES = "a[0-9][0-9]_s[0-9][0-9]_e[0-9][0-9]_skeleton3D.txt"
MARKERS = (_FILES, f"MSRAction3DSkeletonReal3D/{_FILES}", f"real_world_coordinates/{_FILES}")
HOW_TO_GET = (
    "MSR-Action3D, its skeletons in real-world coordinates (for research, https://wangjiangb.github.io/my_data.html): "
    f"aAA_sSS_eEE_skeleton3D.txt, as unpacked, in {FOLDER}/"
)
ACTIONS = (
    *("high arm wave", "horizontal arm wave", "hammer", "hand catch", "forward punch", "high throw", "draw x"),
    *("draw tick", "draw circle", "hand clap", "two hand wave", "side boxing", "bend", "forward kick", "side kick"),
    *("jogging", "tennis swing", "tennis serve", "golf swing", "pick up and throw"),
)
LEFT_OUT = frozenset(
    (
        *("a02_s03_e02", "a04_s03_e01", "a07_s04_e01", "a13_s09_e01", "a13_s09_e02"),
        *("a13_s09_e03", "a14_s03_e01", "a20_s07_e01", "a20_s07_e03", "a20_s10_e03"),
    )
)
"""Sequences whose skeletons are missing or wrong. Source: Wang et al. 2012, whose list has the other 557."""

_VERSION = 1
_TRAIN, _VALID = (1, 3, 5, 7), (9,)
_FEWEST_FRAMES = 5
_NAME = re.compile(r"a(\d\d)_s(\d\d)_e(\d\d)_skeleton3D\.txt")
# The place in a file's skeleton of each of `JOINTS`. Source: drawskt.m, which comes with the files.
_PLACES = np.array((19, 2, 0, 7, 9, 11, 1, 8, 10, 12, 3, 6, 4, 13, 15, 17, 5, 14, 16, 18))


def load(folder: Path) -> Dataset:
    """The sequences found under `folder`, one sample each. A group is a sequence, the natural key a person.

    Raises DataError for a file that is no sequence of skeletons, and where one of the splits would be empty.
    """
    files = sorted(file for marker in MARKERS for file in listed(folder, marker) if file.name[:11] not in LEFT_OUT)
    arrays = cached("msr-action3d", _VERSION, files, lambda: _parsed(files)) if files else {}
    splits = {}
    for name, people in (("train", _TRAIN), ("valid", _VALID), ("test", None)):
        rows = _rows(arrays, people)
        if not len(rows):
            raise DataError(f"{folder}: no sequence of the people for {name}; put there {HOW_TO_GET}")
        y = arrays["action"][rows, None].astype(np.float32)
        splits[name] = Split(arrays["x"][rows], y, group=arrays["sequence"][rows], key=arrays["person"][rows])
    return Dataset.of(splits, source=NAME, real=True, features=JOINTS, natural_key="person")


def _rows(arrays: Arrays, people: Sequence[int] | None) -> NDArray[np.int64]:
    """The rows of these people; of all who are not learned from where it is None."""
    if not arrays:
        return np.array([], np.int64)
    return np.flatnonzero(np.isin(arrays["person"], people or (*_TRAIN, *_VALID), invert=people is None))


def _parsed(files: Sequence[Path]) -> Arrays:
    frames = [_frames(file) for file in files]
    numbers = np.array([_numbers(file) for file in files], np.int64)
    whole = np.array([each.any(axis=(1, 2)).sum() >= _FEWEST_FRAMES for each in frames])
    kept = [each for each, is_whole in zip(frames, whole, strict=True) if is_whole]
    action, person, take = numbers[whole].T
    lengths = np.array([len(each) for each in kept], np.int64)
    moving = normalised(np.concatenate([np.empty((0, len(JOINTS), 3)), *kept]), lengths)
    return {
        "x": to_bytes(moving),
        "action": action - 1,
        "person": person,
        "sequence": person * 10_000 + action * 100 + take,
    }


def _numbers(file: Path) -> tuple[int, ...]:
    found = _NAME.fullmatch(file.name)
    if found is None or not 1 <= int(found[1]) <= len(ACTIONS):
        raise DataError(f"{file}: no action of 1 to {len(ACTIONS)}; take it away, or fetch {HOW_TO_GET} again")
    return int(found[1]), int(found[2]), int(found[3])


def _frames(file: Path) -> NDArray[np.float64]:
    """[frame, joint, 3] in metres, the joints in the order of `JOINTS`."""
    lines = read_lines(file, HOW_TO_GET)
    try:
        numbers = np.array([cell for _, line in lines for cell in line.split()], np.float64)
    except ValueError:
        numbers = np.array([np.nan])
    if not (np.abs(numbers) <= MOST).all():
        for number, line in lines:
            for cell in line.split():
                finite(cell, "a coordinate", f"{file}, line {number}", f"fetch {HOW_TO_GET} again")
    a_frame = len(JOINTS) * 4
    if not len(numbers) or len(numbers) % a_frame:
        raise DataError(f"{file}: not {len(JOINTS)} lines of x y z confidence a frame; fetch {HOW_TO_GET} again")
    return numbers.reshape(-1, len(JOINTS), 4)[:, _PLACES, :3]
