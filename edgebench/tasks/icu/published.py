"""The 76 inputs of the published MIMIC-III benchmark: 17 variables an hour, values, categories and masks.

Source: Harutyunyan et al. 2019, "Multitask learning and benchmarking with clinical time series data";
12 continuous + 47 one-hot + 17 masks, each variable at its previous value, at its normal one before the first.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

STEPS = 48


@dataclass(frozen=True)
class Variable:
    """A column of a time series; `categories` are the texts that it may hold, empty for a number."""

    name: str
    normal: float
    """The value before the first measurement; of a category, its index."""
    low: float = 0.0
    high: float = 0.0
    """Bounds of what a sound measurement can be; of a number only."""
    categories: tuple[str, ...] = ()


_EYE = (
    "To Pain",
    "3 To speech",
    "1 No Response",
    "4 Spontaneously",
    "None",
    "To Speech",
    "Spontaneously",
    "2 To pain",
)
_MOTOR = (
    "1 No Response",
    "3 Abnorm flexion",
    "Abnormal extension",
    "No response",
    "4 Flex-withdraws",
    "Localizes Pain",
    "Flex-withdraws",
    "Obeys Commands",
    "Abnormal Flexion",
    "6 Obeys Commands",
    "5 Localizes Pain",
    "2 Abnorm extensn",
)
_TOTAL = ("11", "10", "13", "12", "15", "14", "3", "5", "4", "7", "6", "9", "8")
_VERBAL = (
    "1 No Response",
    "No Response",
    "Confused",
    "Inappropriate Words",
    "Oriented",
    "No Response-ETT",
    "5 Oriented",
    "Incomprehensible sounds",
    "1.0 ET/Trach",
    "4 Confused",
    "2 Incomp sounds",
    "3 Inapprop words",
)

VARIABLES = (
    Variable("Capillary refill rate", 0, categories=("0.0", "1.0")),
    Variable("Diastolic blood pressure", 59.0, 0, 300),
    Variable("Fraction inspired oxygen", 0.21, 0.2, 1.1),
    Variable("Glascow coma scale eye opening", 3, categories=_EYE),
    Variable("Glascow coma scale motor response", 9, categories=_MOTOR),
    Variable("Glascow coma scale total", 4, categories=_TOTAL),
    Variable("Glascow coma scale verbal response", 6, categories=_VERBAL),
    Variable("Glucose", 128.0, 5, 2_000),
    Variable("Heart Rate", 86.0, 0, 350),
    Variable("Height", 170.0, 30, 250),
    Variable("Mean blood pressure", 77.0, 0, 330),
    Variable("Oxygen saturation", 98.0, 0, 100),
    Variable("Respiratory rate", 19.0, 0, 300),
    Variable("Systolic blood pressure", 118.0, 0, 375),
    Variable("Temperature", 36.6, 14, 47),
    Variable("Weight", 81.0, 1, 300),
    Variable("pH", 7.4, 6.3, 8.4),
)


NORMAL: NDArray[np.float32] = np.array([v.normal for v in VARIABLES], np.float32)


def feature_names() -> tuple[str, ...]:
    """The 76 features in their order."""
    values = [
        name for v in VARIABLES for name in ([f"{v.name}->{c}" for c in v.categories] if v.categories else [v.name])
    ]
    return tuple(values + [f"mask->{v.name}" for v in VARIABLES])


def encode(filled: NDArray[np.float32], measured: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Features float32 [stay, step, 76] of values or category indices, and of what was measured.

    filled, measured: [stay, step, 17], without gaps, as `carried_forward` leaves them.
    """
    columns: list[NDArray[np.float32]] = []
    for index, variable in enumerate(VARIABLES):
        column = filled[..., index]
        if variable.categories:
            columns.append((column[..., None] == np.arange(len(variable.categories))).astype(np.float32))
        else:
            columns.append(np.clip(column, variable.low, variable.high)[..., None])
    return np.concatenate([*columns, measured.astype(np.float32)], axis=-1, dtype=np.float32)


def carried_forward(grid: NDArray[np.float32], normal: NDArray[np.float32]) -> NDArray[np.float32]:
    """`grid` [stay, step, variable] with each NaN replaced by the value before it, at first `normal` [variable]."""
    step = np.arange(grid.shape[1])[None, :, None]
    last = np.maximum.accumulate(np.where(np.isfinite(grid), step, -1), axis=1)
    held = np.take_along_axis(grid, np.maximum(last, 0), axis=1)
    return np.where(last >= 0, held, normal).astype(np.float32)
