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

from edgebench.tasks.lanes.geometry import ABSENT, FRAME, ROWS, WIDTH

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
_HORIZON_Y, _LEAST_DEPTH = 235.0, 12.0
_RIDGE = 1e-3
_STRAY_PX = 12.0
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
    return _at_rows(x * WIDTH, np.where(there > 0.5, there, 0.0))


def _from_segments(outputs: Array) -> Array:
    cells = outputs.reshape(len(outputs), GRID[0] * GRID[1], 1 + EMBEDDING)
    odds, embedding = cells[:, :, 0], cells[:, :, 1:]
    member = _clusters(odds, embedding)
    share = (member / (1 + np.exp(-odds))[:, None, :]).reshape(len(cells), _LANES, *GRID)
    total = share.sum(3)
    column = (np.arange(GRID[1], dtype=np.float32) + 0.5) * _CELL_X
    x = (share @ column) / np.maximum(total, 1e-6)
    return _at_rows(x, np.where(total > 0.5, total, 0.0))


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


def _at_rows(x: Array, weight: Array) -> Array:
    """From x and how surely it is seen [sample, lane, grid row], 0 for not at all, to lanes [sample, lane, row]."""
    seen = weight > 0
    seen &= (seen.sum(axis=2, keepdims=True)) >= _FEWEST_ROWS
    first = np.where(seen, GRID_Y, np.inf).min(axis=2, keepdims=True) - _CELL_Y / 2
    last = np.where(seen, GRID_Y, -np.inf).max(axis=2, keepdims=True) + _CELL_Y / 2
    found = _fitted(x, np.where(seen, weight, 0.0)) @ _basis(ROWS).T
    there = (first <= ROWS) & (last >= ROWS) & (found >= 0) & (found < WIDTH)
    return np.where(there, found, ABSENT).astype(np.float32)


def _fitted(x: Array, weight: NDArray[np.float64]) -> NDArray[np.float64]:
    """Coefficients [sample, lane, 3] of the curve through x, on which points that are far from it have less say."""
    basis = _basis(GRID_Y)
    trusted = weight
    for _ in range(2):
        weighted = trusted[..., None] * basis
        normal = np.swapaxes(weighted, 2, 3) @ basis + _RIDGE * np.eye(basis.shape[1])
        wanted = (weighted * x[..., None]).sum(2)
        curve = np.linalg.solve(normal, wanted[..., None])[..., 0]
        trusted = weight / (1 + np.square((curve @ basis.T - x) / _STRAY_PX))
    return curve


def _basis(y: Array) -> NDArray[np.float64]:
    """A lane on a flat road is a + b · depth + c / depth, where depth is how far below the horizon it is."""
    depth = np.maximum(y - _HORIZON_Y, _LEAST_DEPTH).astype(np.float64) / 100
    return np.stack([np.ones_like(depth), depth, 1 / (depth + 0.2)], axis=1)
