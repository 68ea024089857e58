"""Lanes as numbers: x positions at fixed rows, in pixels of a frame of 1280 × 720.

lanes: float32 [sample, lane, row], x at each of the 56 rows of `ROWS`, `ABSENT` where the lane is not. A label has
`LANES` of them from left to right, absent ones last; flattened, it is float32 [sample, LANES * 56].
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

WIDTH, HEIGHT = 1_280, 720
"""Of the frames that lanes are measured in; Source: the TuSimple lane benchmark."""
ROWS = np.arange(160, 711, 10, dtype=np.float32)
"""The `h_samples` of TuSimple."""
LANES = 5
ABSENT = -2.0

FRAME = (80, 160)
"""Height and width of a sample. It shows the whole frame, so a pixel of it is 9 rows high and 8 columns wide."""

_END = 5
"""Rows from a lane's end that tell in which direction it goes on."""


def labels_of(lanes: NDArray[np.float32]) -> NDArray[np.float32]:
    """[sample, any number of lanes, row] -> [sample, LANES * row]: sorted, the outermost of too many left away."""
    lanes = sorted_lanes(lanes)
    surplus = lanes.shape[1] - LANES
    if surplus < 0:
        lanes = np.pad(lanes, ((0, 0), (0, -surplus), (0, 0)), constant_values=ABSENT)
    if surplus > 0:
        # Far from the middle of the frame is least of a car's concern.
        order = np.argsort(np.abs(at_bottom(lanes) - WIDTH / 2), axis=1, kind="stable")[:, :LANES]
        lanes = sorted_lanes(np.take_along_axis(lanes, order[:, :, None], axis=1))
    return np.ascontiguousarray(lanes.reshape(len(lanes), -1), np.float32)


def lanes_of(labels: NDArray[np.float32]) -> NDArray[np.float32]:
    """[sample, lane * row] -> [sample, lane, row]."""
    return labels.reshape(len(labels), -1, len(ROWS))


def sorted_lanes(lanes: NDArray[np.float32]) -> NDArray[np.float32]:
    """From left to right where they meet the frame's bottom; absent ones last."""
    lanes = np.where(lanes >= 0, lanes, ABSENT).astype(np.float32)
    order = np.argsort(at_bottom(lanes), axis=1, kind="stable")
    return np.take_along_axis(lanes, order[:, :, None], axis=1)


def at_bottom(lanes: NDArray[np.float32]) -> NDArray[np.float32]:
    """Where each lane is, x [sample, lane], prolonged to the lowest row; infinity where it is absent."""
    found = prolonged(lanes, ROWS[-1:])[:, :, 0]
    return np.where((lanes >= 0).any(2), found, np.inf).astype(np.float32)


def ends(lanes: NDArray[np.float32]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The first and the last row number [sample, lane] of each lane; 0 and 0 where it is absent."""
    present = lanes >= 0
    last = lanes.shape[2] - 1 - present[:, :, ::-1].argmax(2)
    return present.argmax(2), np.where(present.any(2), last, 0)


def prolonged(lanes: NDArray[np.float32], y: NDArray[np.float32]) -> NDArray[np.float32]:
    """Lanes [sample, lane, len(y)] at any heights `y`, by straight lines, and straight on beyond a lane's ends."""
    first, last = ends(lanes)
    place = np.broadcast_to((y - ROWS[0]) / (ROWS[1] - ROWS[0]), (*lanes.shape[:2], len(y)))
    within = np.clip(place, first[:, :, None], last[:, :, None])
    low = np.minimum(np.floor(within).astype(np.int64), np.maximum(last - 1, 0)[:, :, None])
    share = within - low
    left, right = (np.take_along_axis(lanes, low + step, axis=2) for step in (0, 1))
    beyond = place - within
    slope = np.where(beyond < 0, *(s[:, :, None] for s in _slopes(lanes, first, last)))
    return (left + share * (right - left) + slope * beyond).astype(np.float32)


def _slopes(
    lanes: NDArray[np.float32], first: NDArray[np.int64], last: NDArray[np.int64]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Change of x a row at the upper and at the lower end."""
    reach = np.minimum(_END, last - first)
    at = [
        np.take_along_axis(lanes, row[:, :, None], axis=2)[:, :, 0]
        for row in (first, first + reach, last - reach, last)
    ]
    span = np.maximum(reach, 1)
    return (at[1] - at[0]) / span, (at[3] - at[2]) / span


def mirrored(labels: NDArray[np.float32]) -> NDArray[np.float32]:
    """The labels of frames that are flipped left to right."""
    lanes = lanes_of(labels)
    return labels_of(np.where(lanes >= 0, WIDTH - 1 - lanes, ABSENT).astype(np.float32))
