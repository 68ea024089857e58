"""Where things are in a frame: the road, its lanes and its horizon, as they follow from the lanes of a label."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgebench.tasks.lanes.geometry import FRAME, HEIGHT, ROWS, WIDTH, ends, prolonged

Array = NDArray[np.float32]

DY, DX = HEIGHT / FRAME[0], WIDTH / FRAME[1]
PIXEL_Y = (np.arange(FRAME[0], dtype=np.float32) + 0.5) * DY
PIXEL_X = (np.arange(FRAME[1], dtype=np.float32) + 0.5) * DX
"""Of a frame's pixels: how many of the label's they are high and wide, and where their rows and columns lie."""

_LANE_M, _FOCAL_PX = 3.7, 1_000.0


@dataclass(frozen=True)
class Road:
    """Where things are, for n frames.

    horizon: its height [n, 1]. depth: rows below the horizon [n, y], at least 1. pace: by how many pixels a lane widens
    a row [n, 1]. x: of each lane at each row of the frame [n, lane, y]. there: whether there is such a lane [n, lane].
    upper, lower: the heights between which it is seen [n, lane]. edges: x of the outermost lanes [n, y].
    """

    horizon: Array
    depth: Array
    pace: Array
    x: Array
    there: NDArray[np.bool_]
    upper: Array
    lower: Array
    edges: tuple[Array, Array]

    @classmethod
    def along(cls, lanes: Array) -> Road:
        """The road whose lanes these are: x [n, lane, row], negative where there is none."""
        present: NDArray[np.bool_] = np.asarray((lanes >= 0).any(2))
        first, last = ends(lanes)
        upper = np.where(present, ROWS[first], np.inf)
        top = np.where(present.any(1), upper.min(1), 260.0)
        horizon, pace = _perspective(lanes, top)
        x = prolonged(lanes, PIXEL_Y)
        # A lane that leaves the frame at its side or its bottom does not end there.
        at_end = np.take_along_axis(lanes, last[:, :, None], axis=2)[:, :, 0]
        leaves = (at_end < 50) | (at_end > WIDTH - 50) | (ROWS[last] > 680)
        lower = np.where(leaves, HEIGHT * 2.0, ROWS[last])
        leftmost = np.where(present[:, :, None], x, np.inf).min(1)
        rightmost = np.where(present[:, :, None], x, -np.inf).max(1)
        nowhere = np.asarray(~present.any(1))[:, None]
        leftmost, rightmost = np.where(nowhere, WIDTH * 0.3, leftmost), np.where(nowhere, WIDTH * 0.7, rightmost)
        return cls(
            horizon=horizon,
            depth=np.maximum(PIXEL_Y - horizon, 1.0).astype(np.float32),
            pace=pace,
            x=x,
            there=present,
            upper=upper.astype(np.float32),
            lower=lower.astype(np.float32),
            edges=(leftmost.astype(np.float32), rightmost.astype(np.float32)),
        )

    def across(self) -> Array:
        """How many lanes a pixel lies from the left edge [n, y, x]: what runs along the road keeps its number."""
        return (PIXEL_X[None, None, :] - self.edges[0][:, :, None]) / (self.pace * self.depth)[:, :, None]

    def ahead_m(self, y: Array) -> Array:
        """Metres ahead of the camera at heights y [n, …]."""
        depth = np.maximum(y - self.horizon, 1.0)
        return _LANE_M * _FOCAL_PX / (np.maximum(self.pace, 0.3) * depth)


def _perspective(lanes: Array, top: Array) -> tuple[Array, Array]:
    """The horizon's height [n, 1], where neighbouring lanes would meet, and how fast they part [n, 1]."""
    left, right = lanes[:, :-1], lanes[:, 1:]
    both = (left >= 0) & (right >= 0)
    count = both.sum(2)
    gap = np.where(both, right - left, 0.0)
    y = np.where(both, ROWS, 0.0)
    mean_y, mean_gap = (a.sum(2) / np.maximum(count, 1) for a in (y, gap))
    off = np.where(both, ROWS - mean_y[:, :, None], 0.0)
    pace = (off * gap).sum(2) / np.maximum((off * off).sum(2), 1.0)
    sound = (count > 5) & (pace > 0.5) & (pace < 4)
    meeting = np.where(sound, mean_y - mean_gap / np.where(sound, pace, 1.0), np.nan)
    with np.errstate(all="ignore"):
        horizon = np.array([np.median(m[s]) if s.any() else np.nan for m, s in zip(meeting, sound, strict=True)])
        typical = np.array([np.median(p[s]) if s.any() else 1.9 for p, s in zip(pace, sound, strict=True)])
    horizon = np.clip(np.where(np.isfinite(horizon), horizon, top - 20), top - 70, top - 6)
    return horizon[:, None].astype(np.float32), typical[:, None].astype(np.float32)
