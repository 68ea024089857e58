"""What a face's labels say, and the metrics of embeddings against them.

Labels float32 [sample, 2] name the person and the row in the split, and every row is compared with every other. Where
the data set lists the pairs to compare, as LFW does, labels [sample, 4] have the pair and the fold too: a picture
stands in the split once for each of its pairs, and both pictures of a pair carry its number and its fold. What is in no
pair has −1 there.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edgebench.tasks.embeddings import (
    Pairs,
    all_pairs,
    retrieval_intervals,
    retrieval_metrics,
    shown_first,
    verification_intervals,
    verification_metrics,
)

PERSON, ROW, PAIR, FOLD = range(4)


def labels_of(
    person: NDArray[np.int64], pair: NDArray[np.int64] | None = None, fold: NDArray[np.int64] | None = None
) -> NDArray[np.float32]:
    """Labels float32 [sample, 2] of a whole split, or [sample, 4] with pairs and folds."""
    columns = (person, np.arange(len(person)), pair, fold)
    return np.stack([column for column in columns if column is not None], axis=1).astype(np.float32)


def pairs_of(labels: NDArray[np.float32]) -> Pairs:
    """The listed pairs of which both pictures are there; all pairs where none is listed."""
    if not _listed(labels):
        return all_pairs(labels[:, PERSON])
    order = np.argsort(labels[:, PAIR], kind="stable")
    number = labels[order, PAIR]
    starts = np.flatnonzero((number[1:] == number[:-1]) & (number[1:] >= 0))
    first, second = order[starts], order[starts + 1]
    same = labels[first, PERSON] == labels[second, PERSON]
    return Pairs(first, second, same, labels[first, FOLD].astype(np.int64))


def face_metrics(embeddings: NDArray[np.float32], labels: NDArray[np.float32]) -> dict[str, float]:
    """`auc` and `accuracy` of verification, and `rank1`: the share of pictures whose most similar other one is of the
    same person, of those that have another. `rank1` is NaN where the data set lists pairs."""
    rows = shown_first(labels)
    embeddings, labels = embeddings[rows], labels[rows]
    correct, allowed = _search(labels)
    return {
        **verification_metrics(embeddings, pairs_of(labels)),
        "rank1": retrieval_metrics(
            embeddings[: len(correct)], embeddings[: len(correct)], correct=correct, allowed=allowed
        )["rank1"],
    }


def face_intervals(
    embeddings: NDArray[np.float32],
    labels: NDArray[np.float32],
    *,
    seed: int,
    group: NDArray[np.int64] | None = None,
) -> dict[str, tuple[float, float]]:
    """95 % bootstrap intervals of `face_metrics`; with `group` [sample] whole people are drawn."""
    rows = shown_first(labels)
    embeddings, labels, group = embeddings[rows], labels[rows], None if group is None else group[rows]
    correct, allowed = _search(labels)
    return {
        **verification_intervals(embeddings, pairs_of(labels), seed=seed, group=group),
        "rank1": retrieval_intervals(
            embeddings[: len(correct)],
            embeddings[: len(correct)],
            correct=correct,
            allowed=allowed,
            seed=seed,
            group=None if group is None else group[: len(correct)],
        )["rank1"],
    }


def _listed(labels: NDArray[np.float32]) -> bool:
    return labels.shape[1] > PAIR and bool((labels[:, PAIR] >= 0).any())


def _search(labels: NDArray[np.float32]) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Who is found by whom, and who may be: [picture, picture]; of no pictures where pairs are listed."""
    # There a picture stands several times, and would find itself.
    person = labels[:0, PERSON] if _listed(labels) else labels[:, PERSON]
    return person[:, None] == person[None, :], ~np.eye(len(person), dtype=bool)
