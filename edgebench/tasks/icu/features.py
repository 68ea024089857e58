"""From irregular measurements to samples of 48 hourly steps, for sources that declare their own variables.

Every variable gives three features: its value (the previous one where none was taken), a mask (1 where one
was) and the gap (hours since the last one). What is constant over a stay is a feature that does not change.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgebench.tasks.icu.published import STEPS, carried_forward

GAP_LIMIT_H = 48.0


@dataclass(frozen=True)
class Channel:
    """A variable as measured: values outside [low, high] are mistyped and count as not measured.

    `log` marks laboratory values that spread over decades; their feature is log(1 + value).
    """

    name: str
    low: float
    high: float
    log: bool = False


def cleaned(grid: NDArray[np.float32], channels: Sequence[Channel]) -> NDArray[np.float32]:
    """`grid` [..., channel] with mistyped values set to NaN and the logarithms taken."""
    low = np.array([c.low for c in channels], np.float32)
    high = np.array([c.high for c in channels], np.float32)
    log = np.array([c.log for c in channels])
    with np.errstate(invalid="ignore"):
        sound = np.where((grid >= low) & (grid <= high), grid, np.nan)
        return np.where(log, np.log1p(np.maximum(sound, 0)), sound).astype(np.float32)


def feature_names(channels: Sequence[Channel], constants: Sequence[str]) -> tuple[str, ...]:
    """The names of the features that `encode` gives, in their order."""
    values = [f"log(1 + {c.name})" if c.log else c.name for c in channels]
    return (*values, *(f"{c.name} mask" for c in channels), *(f"{c.name} gap" for c in channels), *constants)


def typical(grid: NDArray[np.float32]) -> NDArray[np.float32]:
    """The median of each channel of `grid` [..., channel]; 0 for one that was never measured."""
    flat = grid.reshape(-1, grid.shape[-1])
    found = [np.median(column[np.isfinite(column)]) if np.isfinite(column).any() else 0.0 for column in flat.T]
    return np.array(found, np.float32)


def encode(
    grid: NDArray[np.float32], constants: NDArray[np.float32], normal: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Features float32 [stay, step, 3 * channel + constant] of a cleaned grid [stay, step, channel].

    constants: [stay, constant], finite; normal: [channel], the value before the first measurement.
    """
    measured = np.isfinite(grid)
    repeated = np.broadcast_to(constants[:, None, :], (*grid.shape[:2], constants.shape[1]))
    parts = [carried_forward(grid, normal), measured.astype(np.float32), _gap_h(measured), repeated]
    return np.concatenate(parts, axis=-1, dtype=np.float32)


def _gap_h(measured: NDArray[np.bool_]) -> NDArray[np.float32]:
    step = np.arange(measured.shape[1], dtype=np.float32)[None, :, None]
    last = np.maximum.accumulate(np.where(measured, step, -GAP_LIMIT_H), axis=1)
    return np.minimum(step - last, GAP_LIMIT_H).astype(np.float32)


def filled(constants: NDArray[np.float32], known: NDArray[np.bool_]) -> NDArray[np.float32]:
    """`constants` [stay, constant] with each NaN replaced by the column's median over the stays `known` [stay]."""
    normal = typical(constants[known])
    return np.where(np.isfinite(constants), constants, normal).astype(np.float32)


def last_steps(rows: NDArray[Any], before: NDArray[Any], end: int) -> NDArray[Any]:
    """The 48 `rows` [step, feature] of one stay up to `end`, with `before` [feature] ahead of the first."""
    found = rows[max(0, end - STEPS) : end]
    lacking = STEPS - len(found)
    return np.concatenate([np.repeat(before[None, :], lacking, axis=0), found]) if lacking else found
