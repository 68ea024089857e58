"""Which pictures are compared, and the figures of it."""

from __future__ import annotations

import numpy as np
import pytest

from edgebench.tasks import task_named
from edgebench.tasks.faces.labels import labels_of, pairs_of

TASK = task_named("face-recognition")


def _at(*degrees: float) -> np.ndarray:
    angle = np.deg2rad(degrees)
    return np.stack([np.cos(angle), np.sin(angle)], axis=1).astype(np.float32)


def test_without_a_list_every_picture_is_compared_with_every_other() -> None:
    labels = labels_of(np.array([4, 4, 9]))
    assert labels.tolist() == [[4, 0], [4, 1], [9, 2]]
    pairs = pairs_of(labels)
    assert pairs.first.tolist() == [0, 0, 1]
    assert pairs.second.tolist() == [1, 2, 2]
    assert pairs.same.tolist() == [True, False, False]


def test_listed_pairs_alone_are_compared_and_half_a_pair_is_none() -> None:
    # Pair 0 is rows 0 and 3, pair 2 rows 4 and 1; of pair 1 one half is missing, and row 5 belongs to none.
    person, pair = np.array([1, 2, 3, 1, 5, 6]), np.array([0, 2, 1, 0, 2, -1])
    pairs = pairs_of(labels_of(person, pair, np.array([0, 7, 0, 0, 7, -1])))
    assert pairs.first.tolist() == [0, 1]
    assert pairs.second.tolist() == [3, 4]
    assert pairs.same.tolist() == [True, False]
    assert pairs.fold.tolist() == [0, 7]


def test_the_metrics_of_four_pictures() -> None:
    # Same pairs are 30 and 50 degrees apart, different ones 20, 70, 10 and 40: 3 of 8 couples are the right way round.
    # 0° finds 20°, and 30° too, of the other person; 20° finds 30°; 70° finds 30°.
    found = TASK.score(_at(0, 30, 20, 70), labels_of(np.array([0, 0, 1, 1])))
    assert found["auc"] == pytest.approx(3 / 8)
    assert found["rank1"] == 0.0
    # 0° and 10° find each other, 80° and 50° too; the person of a single picture has nobody to find.
    found = TASK.score(_at(0, 10, 80, 50, 5), labels_of(np.array([0, 0, 1, 1, 2])))
    assert found["rank1"] == 0.5


def test_a_picture_that_a_stream_shows_twice_is_not_compared_with_itself() -> None:
    labels = labels_of(np.array([0, 0, 1, 1]))
    once = TASK.score(_at(0, 30, 20, 70), labels)
    again = np.array([0, 1, 2, 3, 2, 0, 1])
    assert TASK.score(_at(0, 30, 20, 70)[again], labels[again]) == once
    intervals = TASK.intervals(_at(0, 30, 20, 70)[again], labels[again], seed=0)
    assert intervals == TASK.intervals(_at(0, 30, 20, 70), labels, seed=0)


def test_where_pairs_are_listed_nobody_is_searched() -> None:
    labels = labels_of(np.array([0, 0, 1, 2]), np.array([0, 0, 1, 1]), np.zeros(4, np.int64))
    found = TASK.score(_at(0, 10, 0, 90), labels)
    assert found["auc"] == 1.0
    assert np.isnan(found["rank1"])
    intervals = TASK.intervals(_at(0, 10, 0, 90), labels, seed=0)
    assert intervals["auc"] == (1.0, 1.0)
    assert np.isnan(intervals["rank1"]).all()


def test_intervals_draw_whole_people() -> None:
    # 0° and 10° find each other, 90° and 81° as well, 40° and 49° too; of the fourth person neither does.
    person = np.repeat(np.arange(4), 2)
    x, labels = _at(0, 10, 90, 81, 40, 49, 150, 5), labels_of(person)
    assert TASK.score(x, labels)["rank1"] == 0.5
    # Each draw of whole people is a mean of the shares 0, 1, 1 and 0.
    low, high = TASK.intervals(x, labels, seed=0, group=person)["rank1"]
    assert (low, high) == (0.0, 1.0)
