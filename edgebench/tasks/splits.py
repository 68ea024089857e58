"""Splits by patient that stay the same wherever and whenever they are made."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

SplitName = Literal["train", "valid", "test"]


def group_of(patient: str) -> int:
    """A number for a patient's identifier, the same on every machine."""
    return int.from_bytes(hashlib.sha256(patient.encode()).digest()[:8], "big") >> 1


def place_of(patient: str) -> float:
    """A place in [0, 1) that a patient's identifier alone decides, independent of `group_of`."""
    return int.from_bytes(hashlib.sha256(f"split:{patient}".encode()).digest()[:8], "big") / 2**64


def share_of(patients: Sequence[str], low: float, high: float) -> NDArray[np.bool_]:
    """Which patients have their place in [low, high)."""
    places = {patient: place_of(patient) for patient in set(patients)}
    return np.array([low <= places[patient] < high for patient in patients], dtype=bool)
