"""UCF101: 13,320 short videos of 101 actions; a sample is a few frames of one.

Source: Soomro, Zamir, Shah 2012. The first of its three splits; of the training videos, some groups (the videos of one
person or scene) are held out.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from edgebench.decoding import whole_number
from edgebench.errors import DataError
from edgebench.tasks.cache import Arrays, cached
from edgebench.tasks.files import read_lines
from edgebench.tasks.splits import share_of
from edgebench.tasks.task import Dataset, Split

if TYPE_CHECKING:
    import av

NAME = "UCF101"
FOLDER = "ucf101"
LISTS = "ucfTrainTestlist"
MARKERS = (LISTS, "UCF-101")
HOW_TO_GET = (
    "UCF101 (for research, https://www.crcv.ucf.edu/data/UCF101.php): UCF-101/ with its videos, and "
    f"{LISTS}/ with the splits for action recognition, in {FOLDER}/"
)
FRAMES = 3
"""Frames of a sample, as many as temporal segment networks learn from (Wang et al. 2016)."""
SIDE = 112

_VERSION = 1
_VALID_SHARE = 0.1
_NAME = re.compile(r"v_(?P<action>\w+)_g(?P<group>\d+)_c(?P<clip>\d+)\.avi")


class _Video(NamedTuple):
    """A line of a list. name: `Action/v_Action_g08_c01.avi`; scene: its action and group."""

    name: str
    scene: str


def load(folder: Path) -> Dataset:
    """The videos of the first split, one sample each. A group is what UCF101 calls so, of one action.

    Raises DataError for what is missing or no video, and where one of the splits would be empty.
    """
    actions = _actions(folder / LISTS / "classInd.txt")
    learned, tested = (_listed(folder / LISTS / f"{name}list01.txt") for name in ("train", "test"))
    held_out = share_of([video.scene for video in learned], 0, _VALID_SHARE)
    # The splits lie one after another, so that none of them is copied: there may be more than a gigabyte.
    learned = [learned[i] for i in np.argsort(held_out, kind="stable")]
    videos = [*learned, *tested]
    sizes = {"train": int((~held_out).sum()), "valid": int(held_out.sum()), "test": len(tested)}
    for name, size in sizes.items():
        if not size:
            raise DataError(f"{folder / LISTS}: no videos for {name}; put there {HOW_TO_GET}")
    files = [folder / "UCF-101" / video.name for video in videos]
    for file in files:
        if not file.is_file():
            raise DataError(f"{file}: missing; put there {HOW_TO_GET}")
    x = cached("ucf101", _VERSION, files, lambda: _parsed(files))["x"]
    y = np.array([[_action(actions, video.name)] for video in videos], np.float32)
    group = np.unique([video.scene for video in videos], return_inverse=True)[1].astype(np.int64)
    splits, start = {}, 0
    for name, size in sizes.items():
        rows = slice(start, start + size)
        splits[name] = Split(x=x[rows], y=y[rows], group=group[rows])
        start += size
    features = tuple(f"frame {i + 1}" for i in range(FRAMES))
    return Dataset.of(splits, source=NAME, real=True, features=features)


def drawn(video: Path) -> NDArray[np.uint8]:
    """`FRAMES` frames of a video, evenly drawn, their middle square: uint8 [frame, side, side, 3].

    A shorter video repeats frames. Raises DataError where there is none.
    """
    import av

    try:
        with av.open(str(video)) as opened:
            stream = opened.streams.video[0]
            told = stream.frames
            # A frame takes a while to be turned into a picture, so only those that are wanted are.
            found = [_picture(f) for i, f in enumerate(opened.decode(stream)) if not told or i in _places(told)]
    except (av.FFmpegError, IndexError, OSError) as error:
        raise DataError(f"{video}: no video that can be read ({error}); fetch {HOW_TO_GET} again") from error
    if not found:
        raise DataError(f"{video}: a video without frames; fetch {HOW_TO_GET} again")
    return np.stack([found[place] for place in _places(len(found))])


def _places(frames: int) -> list[int]:
    """The middles of as many parts of equal length as frames are drawn."""
    return [(2 * i + 1) * frames // (2 * FRAMES) for i in range(FRAMES)]


def _picture(frame: av.VideoFrame) -> NDArray[np.uint8]:
    short = min(frame.width, frame.height)
    width, height = (round(SIDE * size / short) for size in (frame.width, frame.height))
    pixels = frame.reformat(width, height, format="rgb24").to_ndarray().astype(np.uint8, copy=False)
    top, left = (height - SIDE) // 2, (width - SIDE) // 2
    return pixels[top : top + SIDE, left : left + SIDE]


def _parsed(files: Sequence[Path]) -> Arrays:
    x = np.empty((len(files), FRAMES, SIDE, SIDE, 3), np.uint8)
    with ThreadPoolExecutor(os.cpu_count(), thread_name_prefix="video") as pool:
        for place, frames in enumerate(pool.map(drawn, files)):
            x[place] = frames
    return {"x": x}


def _actions(file: Path) -> dict[str, int]:
    """The class of each action, from 0, as `1 ApplyEyeMakeup` has it."""
    actions: dict[str, int] = {}
    for number, line in read_lines(file, HOW_TO_GET):
        words = line.split()
        place = whole_number(words[0]) if len(words) == 2 else None
        if place is None:
            raise DataError(f"{file}, line {number}: not a number and a name; fetch {HOW_TO_GET} again")
        actions[words[1]] = place - 1
    return actions


def _listed(file: Path) -> list[_Video]:
    """The videos that a list names; what follows in a line is their class."""
    videos = []
    for number, line in read_lines(file, HOW_TO_GET):
        name = line.split()[0]
        found = _NAME.fullmatch(name.rpartition("/")[2])
        if found is None:
            where = f"{file}, line {number}"
            raise DataError(f"{where}: {name} is not named v_Action_gNN_cNN.avi; fetch {HOW_TO_GET} again")
        videos.append(_Video(name, f"{found['action']} {found['group']}"))
    return videos


def _action(actions: dict[str, int], video: str) -> int:
    name = video.partition("/")[0]
    if name not in actions:
        raise DataError(f"{LISTS}/classInd.txt: no action '{name}', which '{video}' is of; fetch {HOW_TO_GET} again")
    return actions[name]
