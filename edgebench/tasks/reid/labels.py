"""What a pedestrian's labels say, and the metrics of embeddings against them, in the protocol of Market-1501.

Labels float32 [sample, 4]: the identity, the camera, the role, query or gallery, and the row among those of its role.
Source: Zheng et al. 2015.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edgebench.tasks.embeddings import retrieval_intervals, retrieval_metrics, shown_first

IDENTITY, CAMERA, ROLE, ROW = range(4)
QUERY, GALLERY = 0, 1
JUNK = -1
"""The identity of what is no whole pedestrian; no search sees it."""
DISTRACTOR = 0
"""The identity of whoever is searched for by nobody; to find them is wrong."""


def labels_of(identity: NDArray[np.int64], camera: NDArray[np.int64], role: NDArray[np.int64]) -> NDArray[np.float32]:
    """Labels float32 [sample, 4] of all pictures of a split, or of those of one role."""
    return np.stack([identity, camera, role, np.arange(len(identity))], axis=1).astype(np.float32)


def roles_within(identity: NDArray[np.int64], camera: NDArray[np.int64], every: int = 6) -> NDArray[np.int64]:
    """Roles for a split that lists no queries: of each person in each camera every n-th picture, from the first."""
    role = np.full(len(identity), GALLERY, np.int64)
    for who, where in np.unique(np.stack([identity, camera], axis=1), axis=0):
        role[np.flatnonzero((identity == who) & (camera == where))[::every]] = QUERY
    return role


def reid_metrics(embeddings: NDArray[np.float32], labels: NDArray[np.float32]) -> dict[str, float]:
    """`rank1` and `map` of searching for each query in the gallery; NaN where there is nothing to find.

    What the query's own camera saw of the same person is left out, and junk.
    """
    rows = shown_first(labels)
    embeddings, labels = embeddings[rows], labels[rows]
    query, gallery, correct, allowed = _search(labels)
    found = retrieval_metrics(embeddings[query], embeddings[gallery], correct=correct, allowed=allowed)
    return {"rank1": found["rank1"], "map": found["mAP"]}


def reid_intervals(
    embeddings: NDArray[np.float32],
    labels: NDArray[np.float32],
    *,
    seed: int,
    group: NDArray[np.int64] | None = None,
) -> dict[str, tuple[float, float]]:
    """95 % bootstrap intervals of `reid_metrics`; with `group` [sample] whole people are drawn, not queries."""
    rows = shown_first(labels)
    embeddings, labels, group = embeddings[rows], labels[rows], None if group is None else group[rows]
    query, gallery, correct, allowed = _search(labels)
    found = retrieval_intervals(
        embeddings[query],
        embeddings[gallery],
        correct=correct,
        allowed=allowed,
        seed=seed,
        group=None if group is None else group[query],
    )
    return {"rank1": found["rank1"], "map": found["mAP"]}


def _search(
    labels: NDArray[np.float32],
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_], NDArray[np.bool_]]:
    """The rows of queries and of the gallery, and who is the same and who may be found: [query, gallery]."""
    query, gallery = (np.flatnonzero(labels[:, ROLE] == role) for role in (QUERY, GALLERY))
    asked, there = labels[query][:, None], labels[gallery][None]
    same = asked[..., IDENTITY] == there[..., IDENTITY]
    allowed = ~(same & (asked[..., CAMERA] == there[..., CAMERA])) & (there[..., IDENTITY] != JUNK)
    return query, gallery, same & (there[..., IDENTITY] > DISTRACTOR), allowed
