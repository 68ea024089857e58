"""Metrics of decisions between two or more classes, and bootstrap intervals."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
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
    unit, units = units_of(curve.size, group)
    found: dict[str, list[float]] = {"auroc": [], "auprc": []}
    for drawn in draws_of(units, seed):
        for name, value in curve.metrics(drawn[unit].astype(float)).items():
            found[name].append(value)
    return {name: percentiles(np.array(values)) for name, values in found.items()}


def class_metrics(outputs: NDArray[np.floating[Any]], labels: NDArray[np.float32]) -> dict[str, float]:
    """`top1` and `top5`, the shares of samples whose class is the likeliest, or among the five likeliest.

    outputs: [sample, class]; labels: class numbers [sample, 1]. NaN for no samples.
    """
    return {name: float(hits.mean()) if len(hits) else float("nan") for name, hits in _hits(outputs, labels).items()}


def class_right(outputs: NDArray[np.floating[Any]], labels: NDArray[np.float32]) -> NDArray[np.float32]:
    """1 where the likeliest class is the true one, else 0 [sample]; arguments as of `class_metrics`."""
    return (outputs.argmax(axis=1) == labels[:, 0]).astype(np.float32)


def class_intervals(
    outputs: NDArray[np.floating[Any]],
    labels: NDArray[np.float32],
    *,
    seed: int,
    group: NDArray[np.int64] | None = None,
) -> dict[str, tuple[float, float]]:
    """95 % percentile bootstrap intervals of `class_metrics`; with `group` [sample] whole groups are drawn."""
    hits = _hits(outputs, labels)
    return ratio_intervals({name: (each, np.ones(len(each))) for name, each in hits.items()}, seed=seed, group=group)


def ratio_intervals(
    ratios: Mapping[str, tuple[NDArray[np.floating[Any]], NDArray[np.floating[Any]]]],
    *,
    seed: int,
    group: NDArray[np.int64] | None = None,
) -> dict[str, tuple[float, float]]:
    """95 % percentile bootstrap intervals of Σ numerator / Σ denominator, both [sample]; of a mean with ones below.

    With `group` [sample] whole groups are drawn, not samples.
    """
    unit, units = units_of(len(next(iter(ratios.values()))[0]), group)
    parts = [part for ratio in ratios.values() for part in ratio]
    of_unit = np.array([np.bincount(unit, part, minlength=units) for part in parts])
    # One by one: all resamples of 100,000 samples would take a gigabyte.
    drawn = [of_unit @ draw.astype(np.float64) for draw in draws_of(units, seed)]
    sums = np.array(drawn, np.float64).reshape(len(drawn), len(ratios), 2)
    found = {}
    for place, name in enumerate(ratios):
        above, below = sums[:, place, 0], sums[:, place, 1]
        found[name] = percentiles(np.divide(above, below, out=np.full(len(sums), np.nan), where=below > 0))
    return found


def _hits(outputs: NDArray[np.floating[Any]], labels: NDArray[np.float32]) -> dict[str, NDArray[np.float64]]:
    if len(outputs) != len(labels):
        raise ValueError(f"{len(outputs)} outputs for {len(labels)} labels")
    true = labels.reshape(-1).astype(np.int64)
    # Of equal outputs the first class counts as likelier, as argmax has it.
    ranked = np.argsort(-outputs, axis=1, kind="stable")
    return {f"top{k}": (ranked[:, :k] == true[:, None]).any(1).astype(np.float64) for k in (1, 5)}


def units_of(samples: int, group: NDArray[np.int64] | None) -> tuple[NDArray[np.int64], int]:
    """The number of what is drawn for each sample, and how many there are."""
    unit = np.arange(samples) if group is None else np.unique(group, return_inverse=True)[1].reshape(-1)
    return unit, int(unit.max()) + 1 if len(unit) else 0


def draws_of(units: int, seed: int) -> Iterator[NDArray[np.int64]]:
    """How often each unit is drawn, in each resample; no resample of nothing."""
    rng = rng_for(seed, "bootstrap")
    for _ in range(RESAMPLES if units else 0):
        yield np.bincount(rng.integers(0, units, units), minlength=units)


def percentiles(values: NDArray[np.float64]) -> tuple[float, float]:
    """The 2.5th and the 97.5th percentile of the defined values."""
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
