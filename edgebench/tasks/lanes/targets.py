"""What models learn, from labels: row anchors and segments on the grid of `decoding`."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edgebench.tasks.lanes.decoding import GRID, GRID_Y, SLOTS
from edgebench.tasks.lanes.geometry import ABSENT, LANES, ROWS, WIDTH, at_bottom, ends, lanes_of, prolonged

_REACH_Y = 5.0
"""A lane is in a row of the grid that its label's ends reach within half the labels' spacing."""
_HALF_CELLS = 1.0


def anchors(labels: NDArray[np.float32]) -> NDArray[np.float32]:
    """Shares of the width [sample, SLOTS * grid row], ABSENT where the slot's lane is not.

    Slots 0 to 2 are the lanes to the left of the frame's middle at its bottom, 2 being the nearest, 3 to 5 those to
    the right, 3 being the nearest. A lane beyond three on one side is left out.
    """
    lanes = lanes_of(labels)
    x, there = _on_grid(lanes)
    bottom = at_bottom(lanes)
    present = np.isfinite(bottom)
    left = present & (bottom < WIDTH / 2)
    # Lanes are sorted: the last on the left is the nearest.
    slot = SLOTS // 2 - left.sum(1, keepdims=True) + np.arange(LANES)
    kept = present & (slot >= 0) & (slot < SLOTS)
    found = np.full((len(labels), SLOTS, GRID[0]), ABSENT, np.float32)
    sample, lane = np.nonzero(kept)
    found[sample, slot[sample, lane]] = np.where(there, x / WIDTH, ABSENT)[sample, lane]
    return found.reshape(len(labels), -1)


def segments(labels: NDArray[np.float32]) -> NDArray[np.uint8]:
    """For each cell of the grid [sample, row * column] the number of its lane from 1 on, 0 where there is none."""
    lanes = lanes_of(labels)
    x, there = _on_grid(lanes)
    place = x / (WIDTH / GRID[1]) - 0.5
    # A flat lane passes several columns in a row of cells: wide enough to stay connected.
    half = np.maximum(_HALF_CELLS, np.abs(np.gradient(place, axis=2)) / 2)
    found = np.zeros((len(labels), *GRID), np.uint8)
    for lane in range(lanes.shape[1]):
        inside = np.abs(np.arange(GRID[1]) - place[:, lane, :, None]) <= half[:, lane, :, None]
        found[inside & there[:, lane, :, None]] = lane + 1
    return found.reshape(len(labels), -1)


def _on_grid(lanes: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Where each lane is at each row of the grid, x [sample, lane, grid row], and whether it is there."""
    first, last = ends(lanes)
    x = prolonged(lanes, GRID_Y)
    present = (lanes >= 0).any(axis=2, keepdims=True)
    within = (ROWS[first][:, :, None] - _REACH_Y <= GRID_Y) & (ROWS[last][:, :, None] + _REACH_Y >= GRID_Y)
    return x, present & within & (x >= 0) & (x < WIDTH)
