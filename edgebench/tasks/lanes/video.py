"""Plain video of a road, with or without stills: what a camera sees, without labels.

It makes a stream: the frames are the test split, whose figures are undefined. Models are trained on generated roads.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgebench.errors import DataError
from edgebench.tasks.cache import cached
from edgebench.tasks.files import listed
from edgebench.tasks.lanes.generator import generate
from edgebench.tasks.lanes.geometry import ABSENT, FRAME, LANES, ROWS
from edgebench.tasks.task import Dataset, Split

NAME = "road video without labels, models of generated roads"
FOLDER = "road"
VIDEOS = ("*.mp4", "*.avi", "*.mov", "*.mkv")
HOW_TO_GET = f"any video of a road ({', '.join(VIDEOS)}) in {FOLDER}/, which makes a stream without labels"

_STILLS = ("*.jpg", "*.png")
_SEED = 0
_VERSION = 1


def load(folder: Path) -> Dataset:
    """All frames of the videos, then the stills, as test split; a group is a file.

    Raises DataError for a video without frames, or a file that is no picture.
    """
    videos, stills = (
        sorted(p for pattern in patterns for p in listed(folder, pattern)) for patterns in (VIDEOS, _STILLS)
    )
    kept = cached("road-video", _VERSION, [*videos, *stills], lambda: _parsed(videos, stills))
    x = kept["x"]
    nothing = np.full((len(x), LANES * len(ROWS)), ABSENT, np.float32)
    made = generate(seed=_SEED)
    # Numbers that no generated road has.
    test = Split(x=x, y=nothing, group=len(made.train) * 10 + kept["video"])
    return replace(made, source=NAME, test=test)


def _parsed(videos: list[Path], stills: list[Path]) -> dict[str, NDArray[np.generic]]:
    from edgebench.tasks.images import read_rgb

    files = [np.stack(list(_decoded(video))) for video in videos] + [read_rgb(still, FRAME)[None] for still in stills]
    return {"x": np.concatenate(files), "video": np.repeat(np.arange(len(files)), [len(file) for file in files])}


def _decoded(video: Path) -> Iterator[NDArray[np.uint8]]:
    import av

    frames = 0
    try:
        with av.open(str(video)) as container:
            for frame in container.decode(video=0):
                frames += 1
                small = frame.reformat(width=FRAME[1], height=FRAME[0], format="rgb24")
                yield np.asarray(small.to_ndarray(), np.uint8)
    except (av.error.FFmpegError, IndexError) as error:
        raise DataError(f"{video}: no video that can be read ({error})") from error
    if not frames:
        raise DataError(f"{video}: a video without frames; record it again")
