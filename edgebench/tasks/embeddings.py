"""Metrics of embeddings: are two of one and the same thing (verification), and does a search find it (retrieval)?

Embeddings float [sample, dimension] are compared by their cosine, whatever their length.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgebench.tasks.metrics import draws_of, percentiles, ratio_intervals, units_of

FOLDS = 10
MOST_PAIRS = 200_000
"""Of more than so many pairs every n-th is compared."""
MOST_THRESHOLDS = 2_048
"""Of more thresholds than so many every n-th is tried for the accuracy."""
_ROWS_AT_ONCE = 256

Floats = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Pairs:
    """Pairs of samples to compare.

    first, second: row numbers [pair]; same: whether both are of one identity; fold: the fold of each, from 0.
    """

    first: NDArray[np.int64]
    second: NDArray[np.int64]
    same: NDArray[np.bool_]
    fold: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.first)


def all_pairs(identity: NDArray[Any]) -> Pairs:
    """Every sample with every other, or every n-th of these pairs where they are more than `MOST_PAIRS`.

    Same and different pairs are each dealt out to the folds in turn.
    """
    count = len(identity)
    pairs = count * (count - 1) // 2
    # Pairs are numbered row by row: (0, 1), (0, 2), …, (1, 2), …
    chosen = np.arange(0, pairs, -(-pairs // MOST_PAIRS) or 1)
    row = np.arange(count, dtype=np.int64)
    starts = row * (count - 1) - row * (row - 1) // 2
    first = np.searchsorted(starts[: max(count - 1, 0)], chosen, side="right") - 1
    second = chosen - starts[first] + first + 1
    same = identity[first] == identity[second]
    turn = np.where(same, np.cumsum(same), np.cumsum(~same)) - 1
    return Pairs(first, second, same, turn % FOLDS)


def shown_first(labels: NDArray[np.float32]) -> NDArray[np.int64]:
    """The rows [row] of the labels [sample, label] that are not like an earlier one.

    A stream may show a picture more than once. Its labels tell the picture, and two of one are no pair to compare.
    """
    _, first = np.unique(labels, axis=0, return_index=True)
    return np.sort(first)


def verification_metrics(embeddings: Floats, pairs: Pairs) -> dict[str, float]:
    """`auc` and `accuracy` of telling same pairs from different ones; NaN unless there are both.

    auc: of the ROC curve, the chance that a same pair is more alike than a different one; equals count one half.
    accuracy: each fold is decided by the threshold that is best on all the others together; the mean over the folds.
    Same and different pairs count half each, as in Labeled Faces in the Wild, where they are equally many.
    Source: Huang et al. 2007, view 2.
    """
    return _Curve(embeddings, pairs).metrics(np.ones(len(pairs)))


def verification_intervals(
    embeddings: Floats, pairs: Pairs, *, seed: int, group: NDArray[np.int64] | None = None
) -> dict[str, tuple[float, float]]:
    """95 % percentile bootstrap intervals of `verification_metrics`.

    Samples are drawn, or with `group` [sample] whole groups. A pair counts as often as its two were drawn together: the
    product of their numbers, but for a pair inside one group the number of that group, which is not compared with
    its own copies.
    """
    curve = _Curve(embeddings, pairs)
    unit, units = units_of(len(embeddings), group)
    first, second = unit[pairs.first][curve.order], unit[pairs.second][curve.order]
    within = first == second
    found: dict[str, list[float]] = {"auc": [], "accuracy": []}
    for drawn in draws_of(units, seed):
        counts = drawn.astype(np.float64)
        for name, value in curve.metrics(counts[first] * np.where(within, 1.0, counts[second])).items():
            found[name].append(value)
    return {name: percentiles(np.array(values)) for name, values in found.items()}


def retrieval_metrics(
    query: Floats, gallery: Floats, *, correct: NDArray[np.bool_], allowed: NDArray[np.bool_]
) -> dict[str, float]:
    """`rank1` and `mAP` of searching for each query in the gallery; NaN where no query has anything to find.

    correct, allowed: [query, gallery]; what is not allowed (the query itself, or what its camera saw at the same time)
    is left out. rank1: the share of queries whose most similar entry is correct. mAP: the mean of their average
    precisions, which is the mean, over the correct entries, of the precision at the place of each. Queries without a
    correct entry do not count. Of entries equally similar the wrong ones come first.
    """
    each = _each_query(query, gallery, correct & allowed, allowed)
    return {name: float(values.mean()) if len(values) else float("nan") for name, values in each.metrics.items()}


def retrieval_intervals(
    query: Floats,
    gallery: Floats,
    *,
    correct: NDArray[np.bool_],
    allowed: NDArray[np.bool_],
    seed: int,
    group: NDArray[np.int64] | None = None,
) -> dict[str, tuple[float, float]]:
    """95 % percentile bootstrap intervals of `retrieval_metrics`.

    Queries are drawn, or with `group` [query] whole groups of them; the gallery stays as it is.
    """
    each = _each_query(query, gallery, correct & allowed, allowed)
    ones = np.ones(len(each.asked))
    ratios = {name: (values, ones) for name, values in each.metrics.items()}
    return ratio_intervals(ratios, seed=seed, group=None if group is None else group[each.asked])


def unit_length(embeddings: Floats) -> NDArray[np.float64]:
    """The embeddings at length 1; one of length 0 stays, and is like nothing."""
    exact = np.asarray(embeddings, np.float64)
    length = np.sqrt((exact**2).sum(axis=1, keepdims=True))
    return exact / np.where(length > 0, length, 1.0)


@dataclass(frozen=True)
class _EachQuery:
    """asked: the queries [asked] that have something to find; metrics: [asked] by name."""

    asked: NDArray[np.int64]
    metrics: dict[str, NDArray[np.float64]]


def _each_query(query: Floats, gallery: Floats, correct: NDArray[np.bool_], allowed: NDArray[np.bool_]) -> _EachQuery:
    if correct.shape != (len(query), len(gallery)):
        raise ValueError(f"{correct.shape} for {len(query)} queries and {len(gallery)} entries")
    asked = np.flatnonzero(correct.any(axis=1)) if correct.size else np.zeros(0, np.int64)
    entries = unit_length(gallery).T
    hit, average = np.zeros(len(asked)), np.zeros(len(asked))
    for start in range(0, len(asked), _ROWS_AT_ONCE):
        part = slice(start, start + _ROWS_AT_ONCE)
        rows = asked[part]
        # What is not allowed goes behind everything else, where it changes no precision.
        similarity = np.where(allowed[rows], unit_length(query[rows]) @ entries, -np.inf)
        order = np.lexsort((correct[rows], -similarity), axis=-1)
        right = np.take_along_axis(correct[rows], order, axis=1)
        precision = np.cumsum(right, axis=1) / np.arange(1, len(gallery) + 1)
        hit[part] = right[:, 0]
        average[part] = (precision * right).sum(axis=1) / right.sum(axis=1)
    return _EachQuery(asked, {"rank1": hit, "mAP": average})


def _similarities(exact: NDArray[np.float64], pairs: Pairs) -> NDArray[np.float64]:
    """The cosine of each pair, of embeddings at length 1."""
    found = np.empty(len(pairs))
    # Some rows with all rows at a time: to gather both of every pair would take gigabytes where they are pictures.
    for start in range(0, len(exact), _ROWS_AT_ONCE):
        inside = np.flatnonzero((pairs.first >= start) & (pairs.first < start + _ROWS_AT_ONCE))
        block = exact[start : start + _ROWS_AT_ONCE] @ exact.T
        found[inside] = block[pairs.first[inside] - start, pairs.second[inside]]
    return found


class _Curve:
    """Pairs sorted once by how alike they are, the most alike first, so that a resample costs a few sums.

    order: the place of each sorted pair in the pairs as given.
    """

    def __init__(self, embeddings: Floats, pairs: Pairs) -> None:
        similarity = _similarities(unit_length(embeddings), pairs)
        self.order = np.argsort(-similarity, kind="stable")
        self._same = pairs.same[self.order]
        descending = similarity[self.order]
        # A threshold can lie behind each of these, never between equals.
        last_of_equals = np.append(descending[1:] != descending[:-1], True)[: len(pairs)]
        self._ends = np.flatnonzero(last_of_equals)
        step = -(-len(self._ends) // MOST_THRESHOLDS) or 1
        between = np.searchsorted(self._ends[step - 1 :: step], np.arange(len(pairs)))
        _, fold = np.unique(pairs.fold[self.order], return_inverse=True)
        # Cells of a table [fold, kind, place between thresholds].
        self._shape = (int(fold.max(initial=-1)) + 1, 2, int(between.max(initial=0)) + 1)
        self._cell = np.ravel_multi_index((fold, self._same.astype(np.int64), between), self._shape)

    def metrics(self, weight: NDArray[np.float64]) -> dict[str, float]:
        """Metrics with sorted pair i counted `weight[i]` times."""
        true = np.concatenate([[0.0], np.cumsum(weight * self._same)[self._ends]])
        false = np.concatenate([[0.0], np.cumsum(weight * ~self._same)[self._ends]])
        if true[-1] == 0 or false[-1] == 0:
            return {"auc": float("nan"), "accuracy": float("nan")}
        area = np.sum(np.diff(false) * (true[1:] + true[:-1]) / 2) / (true[-1] * false[-1])
        return {"auc": float(area), "accuracy": self._accuracy(weight)}

    def _accuracy(self, weight: NDArray[np.float64]) -> float:
        table = np.bincount(self._cell, weight, minlength=int(np.prod(self._shape))).reshape(self._shape)
        # What passes each threshold, from the one above everything.
        passed: NDArray[np.float64] = np.cumsum(np.pad(table, ((0, 0), (0, 0), (1, 0))), axis=2)
        # Of thresholds that are equally good argmax takes the highest.
        chosen = np.argmax(_accuracies(passed.sum(axis=0) - passed), axis=1)
        found = _accuracies(passed)[np.arange(len(passed)), chosen]
        defined = found[np.isfinite(found)]
        return float(defined.mean()) if len(defined) else float("nan")


def _accuracies(passed: NDArray[np.float64]) -> NDArray[np.float64]:
    """The accuracy [fold, threshold] where [fold, different or same, threshold] passes; NaN without both kinds."""
    total = passed[:, :, -1:]
    share = np.divide(passed, total, out=np.full_like(passed, np.nan), where=total > 0)
    return (1 - share[:, 0] + share[:, 1]) / 2
