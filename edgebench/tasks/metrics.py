"""Metrics of a yes-or-no decision, and their bootstrap intervals."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgebench.seeds import rng_for

RESAMPLES = 1_000


def binary_metrics(outputs: NDArray[np.floating[Any]], labels: NDArray[np.float32]) -> dict[str, float]:
    """`auroc` and `auprc` of scores against labels of 0 and 1, both [sample] or [sample, 1].

    AUPRC is the average precision: the sum of precision times the gain in recall over the distinct
    scores. Both are NaN unless both labels occur.
    """
    curve = _Curve(outputs, labels)
    return curve.metrics(np.ones(curve.size))


def binary_intervals(
    outputs: NDArray[np.float32],
    labels: NDArray[np.float32],
    *,
    seed: int,
    group: NDArray[np.int64] | None = None,
) -> dict[str, tuple[float, float]]:
    """95 % percentile bootstrap intervals of `binary_metrics`.

    With `group` [sample] whole groups are drawn: the hours of one patient are no independent samples.
    """
    curve = _Curve(outputs, labels)
    rng = rng_for(seed, "bootstrap")
    unit = np.arange(curve.size) if group is None else np.unique(group, return_inverse=True)[1]
    units = int(unit.max()) + 1 if len(unit) else 0
    found: dict[str, list[float]] = {"auroc": [], "auprc": []}
    for _ in range(RESAMPLES if units else 0):
        drawn = np.bincount(rng.integers(0, units, units), minlength=units)
        for name, value in curve.metrics(drawn[unit].astype(float)).items():
            found[name].append(value)
    return {name: _percentiles(np.array(values)) for name, values in found.items()}


def _percentiles(values: NDArray[np.float64]) -> tuple[float, float]:
    defined = values[np.isfinite(values)]
    if not len(defined):
        return float("nan"), float("nan")
    low, high = np.quantile(defined, (0.025, 0.975))
    return float(low), float(high)


class _Curve:
    """Scores sorted once, so that each resample costs two cumulative sums."""

    def __init__(self, outputs: NDArray[np.floating[Any]], labels: NDArray[np.float32]) -> None:
        score, label = np.asarray(outputs).reshape(-1), np.asarray(labels).reshape(-1)
        if len(score) != len(label):
            raise ValueError(f"{len(score)} outputs for {len(label)} labels")
        self.size = len(score)
        self._order = np.argsort(-score, kind="stable")
        self._positive = label[self._order] > 0.5
        descending = score[self._order]
        self._ends = (
            np.flatnonzero(np.append(descending[1:] != descending[:-1], True)) if self.size else np.array([], int)
        )

    def metrics(self, weight: NDArray[np.float64]) -> dict[str, float]:
        """Metrics with sample i counted `weight[i]` times."""
        ordered = weight[self._order]
        true = np.cumsum(ordered * self._positive)[self._ends]
        false = np.cumsum(ordered * ~self._positive)[self._ends]
        if not self.size or true[-1] == 0 or false[-1] == 0:
            return {"auroc": float("nan"), "auprc": float("nan")}
        gained = np.diff(true, prepend=0.0)
        passed = np.diff(false, prepend=0.0)
        # A pair with equal scores counts one half.
        area = float(np.sum(passed * (true - gained / 2)) / (true[-1] * false[-1]))
        precision = true / np.maximum(true + false, 1.0)
        return {"auroc": area, "auprc": float(np.sum(precision * gained) / true[-1])}
