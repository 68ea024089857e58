"""How TuSimple measures lanes, for all frames at once.

A point is found where the prediction is less than 20 pixels / cos(angle) away in x, the angle being that of the line
fitted through the true lane; a row where neither has the lane counts as found, and one where only one of them has it
as missed. A true lane's accuracy is its share of found rows under the best prediction, and it is matched
from 0.85 on. A frame's accuracy is the mean over its lanes, without the worst where there are five; predictions of more
than two lanes too many score nothing. Figures are means over frames.
Source: the TuSimple lane benchmark, its evaluation.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from edgebench.tasks.lanes.geometry import ROWS

POINT_PX = 20.0
MATCHED = 0.85
_COUNTED = 4
_SURPLUS = 2
_FAR = -100.0
_CHUNK = 512

Ratios = Mapping[str, tuple[NDArray[np.float64], NDArray[np.float64]]]


def lane_metrics(predicted: NDArray[np.float32], true: NDArray[np.float32]) -> dict[str, float]:
    """`accuracy`, `fp` and `fn` as published, and `points`; NaN for no frames.

    predicted, true: [sample, lane, row]; lanes without a point do not count. points: the share of the points that are
    there which the best prediction of their lane finds. It is stricter: rows above every lane's end give nothing.
    """
    found = {}
    for name, (numerator, denominator) in frame_ratios(predicted, true).items():
        below = denominator.sum()
        found[name] = float(numerator.sum() / below) if below else float("nan")
    return found


def frame_ratios(predicted: NDArray[np.float32], true: NDArray[np.float32]) -> Ratios:
    """Numerator and denominator [sample] of each metric; both 0 for a frame without true lanes, which tells nothing."""
    if len(predicted) != len(true):
        raise ValueError(f"{len(predicted)} outputs for {len(true)} labels")
    chunks = [_ratios(predicted[i : i + _CHUNK], true[i : i + _CHUNK]) for i in range(0, max(len(true), 1), _CHUNK)]
    return {
        name: (
            np.concatenate([chunk[name][0] for chunk in chunks]),
            np.concatenate([chunk[name][1] for chunk in chunks]),
        )
        for name in chunks[0]
    }


def _ratios(predicted: NDArray[np.float32], true: NDArray[np.float32]) -> Ratios:
    given, there = (np.asarray((lanes >= 0).any(2)) for lanes in (predicted, true))
    lanes, guesses = there.sum(1), given.sum(1)
    points = true >= 0
    near = _near(predicted, true)
    accuracy = np.where(given[:, None, :] & there[:, :, None], near.mean(3), 0.0)
    best = accuracy.max(2, initial=0.0)
    matched = (there & (best >= MATCHED)).sum(1)
    missed = lanes - matched
    many = lanes > _COUNTED
    total = best.sum(1) - np.where(many, np.where(there, best, np.inf).min(1, initial=np.inf), 0.0)
    counted = np.clip(lanes, 1, _COUNTED)
    absurd = guesses > lanes + _SURPLUS
    rated = (lanes > 0).astype(np.float64)
    found = np.take_along_axis(near, accuracy.argmax(2)[:, :, None, None], axis=2)[:, :, 0] & points
    found &= best[:, :, None] > 0
    return {
        "accuracy": (np.where(absurd | (lanes == 0), 0.0, total / counted), rated),
        "fp": (np.where(absurd, 0.0, (guesses - matched) / np.maximum(guesses, 1)) * rated, rated),
        "fn": (np.where(absurd, 1.0, (missed - (many & (missed > 0))) / counted) * rated, rated),
        "points": (found.sum((1, 2)).astype(np.float64), points.sum((1, 2)).astype(np.float64)),
    }


def _near(predicted: NDArray[np.float32], true: NDArray[np.float32]) -> NDArray[np.bool_]:
    """[sample, true lane, predicted lane, row]: whether the point is found."""
    threshold = POINT_PX / np.cos(np.arctan(_inclination(true)))
    apart = np.abs(np.where(true >= 0, true, _FAR)[:, :, None] - np.where(predicted >= 0, predicted, _FAR)[:, None])
    return apart < threshold[:, :, None, None]


def _inclination(lanes: NDArray[np.float32]) -> NDArray[np.float64]:
    """Change of x with y [sample, lane], by least squares; 0 for fewer than two points."""
    there = lanes >= 0
    count = np.maximum(there.sum(2), 1)
    y = np.where(there, ROWS - (there * ROWS).sum(2, keepdims=True) / count[:, :, None], 0.0)
    across = (y * np.where(there, lanes, 0.0)).sum(2)
    along = (y * y).sum(2)
    return np.divide(across, along, out=np.zeros_like(across), where=along > 0)
