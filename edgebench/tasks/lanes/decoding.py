"""From a model's outputs to lanes.

Models look at the part of a frame where lanes can be, on a grid of `GRID` cells of 18 × 16 pixels. Two kinds of outputs
are told apart by their number:

- row anchors, `ANCHOR_OUTPUTS` of them: for each of `SLOTS` lanes (three to the left of the frame's middle, three to
  the right) and each row of the grid x as a share of the width, then as many probabilities that the lane is there;
- segments, `SEGMENT_OUTPUTS` of them: for each cell the log-odds that it is of a lane, and an embedding that is near
  that of other cells of the same lane and far from that of others.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edgebench.tasks.lanes.geometry import ABSENT, FRAME, ROWS, WIDTH, prolonged

SLOTS = 6
GRID = (32, 80)
_CELL_Y, _CELL_X = 18.0, 16.0
TOP_CELLS = FRAME[0] // 2 - GRID[0]
"""Rows of cells above the grid, which is all sky."""
GRID_Y = ((np.arange(GRID[0]) + TOP_CELLS + 0.5) * _CELL_Y).astype(np.float32)
EMBEDDING = 4
ANCHOR_OUTPUTS = 2 * SLOTS * GRID[0]
SEGMENT_OUTPUTS = GRID[0] * GRID[1] * (1 + EMBEDDING)

NEAR, APART = 0.5, 3.0
"""Cells of one lane are to lie within `NEAR` of its centre, centres `APART`; Source: Neven et al. 2018 (LaneNet)."""

_FEWEST_ROWS = 3
_LANES = 6
_FEWEST_CELLS = 5
_SHIFTS = 4
_CHUNK = 128

Array = NDArray[np.float32]


def lanes_from(outputs: Array) -> Array:
    """Lanes [sample, lane, row] of a model's outputs [sample, output].

    Raises ValueError for a number of outputs that no model has.
    """
    if outputs.shape[1] == ANCHOR_OUTPUTS:
        return _from_anchors(outputs)
    if outputs.shape[1] == SEGMENT_OUTPUTS:
        chunks = [_from_segments(outputs[i : i + _CHUNK]) for i in range(0, len(outputs), _CHUNK)]
        return np.concatenate(chunks) if chunks else np.empty((0, _LANES, len(ROWS)), np.float32)
    raise ValueError(f"{outputs.shape[1]} outputs; a model of lanes has {ANCHOR_OUTPUTS} or {SEGMENT_OUTPUTS}")


def _from_anchors(outputs: Array) -> Array:
    x, there = np.split(outputs.reshape(len(outputs), 2 * SLOTS, GRID[0]), 2, axis=1)
    return _at_rows(x * WIDTH, there > 0.5)


def _from_segments(outputs: Array) -> Array:
    cells = outputs.reshape(len(outputs), GRID[0] * GRID[1], 1 + EMBEDDING)
    odds, embedding = cells[:, :, 0], cells[:, :, 1:]
    member = _clusters(odds, embedding)
    share = (member / (1 + np.exp(-odds))[:, None, :]).reshape(len(cells), _LANES, *GRID)
    total = share.sum(3)
    column = (np.arange(GRID[1], dtype=np.float32) + 0.5) * _CELL_X
    x = (share @ column) / np.maximum(total, 1e-6)
    return _at_rows(x, total > 0.5)


def _clusters(odds: Array, embedding: Array) -> NDArray[np.bool_]:
    """Which cells [sample, lane, cell] are of which lane: the surest cell that is left starts one, and its centre
    moves to the mean of what is near it until it stays about where it is."""
    left = odds > 0
    found = np.zeros((len(odds), _LANES, odds.shape[1]), bool)
    for lane in range(_LANES):
        seed = np.where(left, odds, -np.inf).argmax(1)
        centre = np.take_along_axis(embedding, seed[:, None, None], axis=1)
        for _ in range(_SHIFTS):
            near = left & (np.square(embedding - centre).sum(2) < (APART / 2) ** 2)
            count = np.maximum(near.sum(1), 1)[:, None, None]
            centre = np.where(near.any(1)[:, None, None], (near[:, None, :] @ embedding) / count, centre)
        found[:, lane] = near
        left &= ~near
    found[found.sum(2) < _FEWEST_CELLS] = False
    return found


def _at_rows(x: Array, seen: NDArray[np.bool_]) -> Array:
    """From x and whether it is seen [sample, lane, grid row] to lanes [sample, lane, row], gaps bridged."""
    seen = seen & (seen.sum(2) >= _FEWEST_ROWS)[:, :, None]
    number = np.arange(GRID[0])
    before = np.maximum.accumulate(np.where(seen, number, -1), axis=2)
    after = np.minimum.accumulate(np.where(seen, number, GRID[0])[:, :, ::-1], axis=2)[:, :, ::-1]
    inside = (before >= 0) & (after < GRID[0])
    low, high = np.clip(before, 0, None), np.clip(after, None, GRID[0] - 1)
    share = (number - low) / np.maximum(high - low, 1)
    left, right = (np.take_along_axis(x, at, axis=2) for at in (low, high))
    bridged = np.where(inside, left + share * (right - left), ABSENT)
    first = np.where(inside, GRID_Y, np.inf).min(2)[:, :, None] - _CELL_Y / 2
    last = np.where(inside, GRID_Y, -np.inf).max(2)[:, :, None] + _CELL_Y / 2
    found = prolonged(bridged.astype(np.float32), ROWS, at=GRID_Y)
    there = (first <= ROWS) & (last >= ROWS) & (found >= 0) & (found < WIDTH)
    return np.where(there, found, ABSENT).astype(np.float32)
