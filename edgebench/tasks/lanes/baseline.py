"""The classical model to hold against (placeholder)."""

from __future__ import annotations

from edgebench.tasks.task import Baseline, Dataset

NAME = "none"


def fit_baseline(dataset: Dataset) -> Baseline:
    """Nothing."""
    return Baseline(NAME, {"accuracy": 0.0, "fp": 1.0, "fn": 1.0, "points": 0.0})
