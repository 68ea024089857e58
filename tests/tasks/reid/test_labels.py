"""The protocol of Market-1501, on searches worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from edgebench.tasks.reid.labels import GALLERY, QUERY, labels_of, reid_intervals, reid_metrics, roles_within
from edgebench.tasks.reid.task import REID

# One query at angle 0, and a gallery in the order of its angles.
ANGLES = np.deg2rad([0, 5, 10, 20, 30, 40])
EMBEDDINGS = np.stack([np.cos(ANGLES), np.sin(ANGLES)], axis=1).astype(np.float32)


def _labels(*rows: tuple[int, int, int]) -> np.ndarray:
    return labels_of(*np.array(rows, np.int64).T)


def test_what_its_own_camera_saw_and_junk_are_passed_over_and_distractors_are_wrong() -> None:
    labels = _labels(
        (7, 1, QUERY),
        (7, 1, GALLERY),  # the same person in the same camera: left out
        (-1, 2, GALLERY),  # junk: left out
        (0, 2, GALLERY),  # a distractor, and first of what counts
        (7, 2, GALLERY),  # right, in place 2
        (7, 3, GALLERY),  # right, in place 3
    )
    found = reid_metrics(EMBEDDINGS, labels)
    assert found["rank1"] == 0
    assert found["map"] == pytest.approx((1 / 2 + 2 / 3) / 2)
    labels[3, 0] = -1
    assert reid_metrics(EMBEDDINGS, labels) == {"rank1": 1.0, "map": 1.0}


def test_somebody_else_in_the_same_camera_counts() -> None:
    labels = _labels((7, 1, QUERY), (8, 1, GALLERY), (7, 2, GALLERY))
    assert reid_metrics(EMBEDDINGS[:3], labels) == {"rank1": 0.0, "map": 0.5}


def test_queries_are_not_searched_for_in_queries() -> None:
    labels = _labels((7, 1, QUERY), (8, 2, QUERY), (7, 2, GALLERY))
    assert reid_metrics(EMBEDDINGS[:3], labels) == {"rank1": 1.0, "map": 1.0}


@pytest.mark.parametrize("role", [QUERY, GALLERY])
def test_without_queries_or_gallery_nothing_is_defined(role: int) -> None:
    labels = _labels((7, 1, role), (7, 2, role))
    assert all(np.isnan(value) for value in REID.score(EMBEDDINGS[:2], labels).values())
    for low, high in REID.intervals(EMBEDDINGS[:2], labels, seed=0, group=np.array([7, 7])).values():
        assert np.isnan(low)
        assert np.isnan(high)
    assert all(np.isnan(value) for value in REID.score(EMBEDDINGS[:0], labels[:0]).values())


def test_what_a_stream_shows_twice_or_in_another_order_changes_no_figure() -> None:
    labels = _labels((7, 1, QUERY), (8, 1, GALLERY), (7, 2, GALLERY), (9, 1, QUERY), (7, 3, GALLERY), (8, 2, GALLERY))
    once = reid_metrics(EMBEDDINGS[:6], labels)
    assert 0 < once["map"] < 1
    for rows in ([0, 2, 1, 4, 5, 3], [0, 1, 2, 3, 4, 5, 4, 2, 1, 1, 0]):
        assert reid_metrics(EMBEDDINGS[rows], labels[rows]) == once


def test_intervals_draw_whole_people() -> None:
    # Person 7 is found by both queries, person 8 by none: any draw of people gives 0, 1/2 … of all queries.
    labels = _labels((7, 1, QUERY), (7, 1, QUERY), (7, 2, GALLERY), (8, 1, QUERY), (8, 1, QUERY), (8, 2, GALLERY))
    embeddings = EMBEDDINGS[[0, 0, 1, 0, 0, 5]]
    assert reid_metrics(embeddings, labels)["rank1"] == 0.5
    found = reid_intervals(embeddings, labels, seed=0, group=labels[:, 0].astype(np.int64))
    assert found["rank1"] == (0.0, 1.0)


def test_of_each_person_in_each_camera_every_sixth_picture_is_a_query() -> None:
    role = roles_within(np.array([3] * 8 + [4] * 2), np.array([1] * 7 + [2] * 3))
    assert role.tolist() == [QUERY, GALLERY, GALLERY, GALLERY, GALLERY, GALLERY, QUERY, QUERY, QUERY, GALLERY]
