"""The classical model to hold against: bright ridges, lines through a vanishing point, sliding windows.

A pixel is a ridge's if it is brighter than the road on both sides of it, by a threshold. Each ridge pixel votes for
the line through it and the vanishing point: a Hough transform, done for several vanishing points, of which each frame
takes the one with the clearest lines. Each line is then followed from the bottom up, row by row, in a window about
where the rows below lead, and what the windows hold is smoothed by a hyperbola, which is what a lane of a flat road is.
The threshold and the votes that make a lane are the best on the training split's first frames.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgebench.tasks.lanes.evaluation import lane_metrics
from edgebench.tasks.lanes.geometry import ABSENT, FRAME, HEIGHT, ROWS, WIDTH, lanes_of, sorted_lanes
from edgebench.tasks.task import Baseline, Dataset, Split

NAME = "bright ridges, Hough lines through the vanishing point, sliding windows"

Array = NDArray[np.float32]

_DY, _DX = HEIGHT / FRAME[0], WIDTH / FRAME[1]
_Y = ((np.arange(FRAME[0]) + 0.5) * _DY).astype(np.float32)
_X = ((np.arange(FRAME[1]) + 0.5) * _DX).astype(np.float32)
_SLOPES = np.linspace(-5, 5, 101).astype(np.float32)
_VANISHING_X = np.arange(480, 801, 40)
_VANISHING_Y = np.arange(215, 276, 15)
_HORIZON_ROWS = 20
"""Nearer to the horizon no marking is told from another."""
_LANES = 5
_APART = 0.9
"""Lanes are at least so much apart in slope; on a real road it is about 1.9."""
_TUNED_ON = 200
_CHUNK = 128


@dataclass(frozen=True)
class Finder:
    """contrast: of a ridge, in units of the road's own mean change from pixel to pixel. votes: the least of a lane, in
    rows that have a ridge on its line."""

    contrast: float
    votes: float

    def lanes(self, frames: NDArray[np.uint8]) -> Array:
        """Lanes [sample, lane, row] of frames [sample, *FRAME, 3]."""
        chunks = [self._found(frames[i : i + _CHUNK]) for i in range(0, len(frames), _CHUNK)]
        return np.concatenate(chunks)

    def _found(self, frames: NDArray[np.uint8]) -> Array:
        ridge = _ridges(frames, self.contrast)
        vanishing, votes = _vanishing(ridge)
        slopes, most = _peaks(votes)
        return _followed(ridge, vanishing, slopes, most >= self.votes)


def fit_baseline(dataset: Dataset) -> Baseline:
    """Choose on the first frames of `dataset.train`, score on `dataset.test`."""
    finder = fitted(dataset)

    def scored(split: Split) -> dict[str, float]:
        return lane_metrics(finder.lanes(split.x), lanes_of(split.y))

    return Baseline(NAME, scored(dataset.test), {where: scored(split) for where, split in dataset.beside.items()})


def fitted(dataset: Dataset) -> Finder:
    """The finder that is best on the first frames of `dataset.train`."""
    frames, true = dataset.train.x[:_TUNED_ON], lanes_of(dataset.train.y[:_TUNED_ON])
    return max(_choices(), key=lambda finder: lane_metrics(finder.lanes(frames), true)["accuracy"])


def _choices() -> Iterator[Finder]:
    for contrast, votes in itertools.product((0.7, 1.0, 1.5), (3.0, 5.0, 8.0)):
        yield Finder(contrast, votes)


def _ridges(frames: NDArray[np.uint8], contrast: float) -> Array:
    """How much brighter a pixel is than both its sides [sample, y, x], in units of the road's own change from pixel to
    pixel; 0 below the contrast."""
    grey = frames.astype(np.float32).mean(3)
    spread = np.abs(np.diff(grey[:, FRAME[0] // 2 :], axis=2)).mean((1, 2))[:, None, None] + 1.0
    ridge = np.zeros_like(grey)
    # A marking is the wider the nearer it is: a lane's width grows by about 1.9 pixels a row, a marking's by a 25th.
    wide = np.clip(0.08 * (_Y - _VANISHING_Y.mean()) / _DX, 2, 7).astype(np.int64)
    for reach in np.unique(wide):
        rows = np.flatnonzero((wide == reach) & (_VANISHING_Y[0] + _HORIZON_ROWS < _Y))
        band = grey[:, rows]
        side = np.maximum(band[:, :, : -2 * reach], band[:, :, 2 * reach :])
        ridge[:, rows, reach:-reach] = band[:, :, reach:-reach] - side
    ridge /= spread
    return np.where(ridge > contrast, ridge, 0.0).astype(np.float32)


def _vanishing(ridge: Array) -> tuple[Array, Array]:
    """The vanishing point (x, y) [sample, 2] with the clearest lines, and the votes for its lines [sample, slope]."""
    # One pixel beside a line is on it.
    hit = ridge > 0
    hit[:, :, 1:-1] = hit[:, :, 1:-1] | hit[:, :, 2:] | hit[:, :, :-2]
    best = np.full(len(ridge), -1.0, np.float32)
    point, found = np.zeros((len(ridge), 2), np.float32), np.zeros((len(ridge), len(_SLOPES)), np.float32)
    for x, y in itertools.product(_VANISHING_X, _VANISHING_Y):
        rows = np.flatnonzero(y + _HORIZON_ROWS < _Y)
        column = np.floor((x + _SLOPES[:, None] * (_Y[rows] - y)) / _DX).astype(np.int64)
        inside = (column >= 0) & (column < FRAME[1])
        votes = (hit[:, rows, np.clip(column, 0, FRAME[1] - 1)] & inside).sum(2).astype(np.float32)
        clear = np.square(_peaks(votes)[1]).sum(1)
        better = clear > best
        best[better], found[better], point[better] = clear[better], votes[better], (x, y)
    return point, found


def _peaks(votes: Array) -> tuple[Array, Array]:
    """The slopes [sample, lane] with the most votes, none near another, and their votes."""
    left = votes.copy()
    slopes, most = np.zeros((2, len(votes), _LANES), np.float32)
    for lane in range(_LANES):
        best = left.argmax(1)
        slopes[:, lane], most[:, lane] = _SLOPES[best], left[np.arange(len(left)), best]
        left[np.abs(_SLOPES - _SLOPES[best][:, None]) < _APART] = 0
    return slopes, most


def _followed(ridge: Array, vanishing: Array, slopes: Array, seen: NDArray[np.bool_]) -> Array:
    """Follow the lines upwards in windows, and fit x = line + a + b · depth + c / depth to what they hold."""
    start_x, start_y = vanishing[:, :1, None], vanishing[:, 1:, None]
    depth = np.maximum(_Y - start_y, 4.0)
    line = start_x + slopes[:, :, None] * depth
    weight, place = np.zeros((2, *line.shape), np.float32)
    shift = np.zeros(slopes.shape, np.float32)
    for row in range(FRAME[0] - 1, -1, -1):
        expected = line[:, :, row] + shift
        near = np.abs(_X - expected[:, :, None]) < 20.0 + 0.1 * depth[:, :, row, None]
        mass = np.where(near, ridge[:, None, row], 0.0)
        total = mass.sum(2)
        off = (mass * _X).sum(2) / np.maximum(total, 1e-6) - expected
        found = (total > 0) & (_Y[row] > vanishing[:, 1:] + _HORIZON_ROWS)
        shift += np.where(found, 0.3 * off, 0.0)
        place[:, :, row], weight[:, :, row] = np.where(found, expected + off - line[:, :, row], 0.0), found
    # The line itself counts a little: it holds where there is no marking.
    normal = np.swapaxes(weight[..., None] * _basis(depth), 2, 3) @ _basis(depth) + np.diag([0.1, 0.1, 2.0])
    wanted = ((weight * place)[..., None] * _basis(depth)).sum(2)
    curve = np.linalg.solve(normal, wanted[..., None])
    below = ROWS - start_y
    x = start_x + slopes[:, :, None] * below + (_basis(np.maximum(below, 4.0)) @ curve)[..., 0]
    there = seen[:, :, None] & (below > _HORIZON_ROWS) & (x >= 0) & (x < WIDTH)
    return sorted_lanes(np.where(there, x, ABSENT).astype(np.float32))


def _basis(depth: Array) -> Array:
    return np.stack([np.ones_like(depth), depth / 100, 100 / (depth + 20)], axis=-1)
