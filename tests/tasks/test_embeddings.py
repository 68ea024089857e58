"""Verification and retrieval by embeddings, with numbers worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from edgebench.seeds import rng_for
from edgebench.tasks import embeddings as module
from edgebench.tasks.embeddings import (
    Pairs,
    all_pairs,
    retrieval_intervals,
    retrieval_metrics,
    unit_length,
    verification_intervals,
    verification_metrics,
)


def _at(*degrees: float) -> np.ndarray:
    """Embeddings in the plane, so that two are the more alike the nearer their angles."""
    angle = np.deg2rad(degrees)
    return np.stack([np.cos(angle), np.sin(angle)], axis=1).astype(np.float32)


def _pairs(same: list[int], fold: list[int]) -> tuple[np.ndarray, Pairs]:
    """A list of pairs, each of which stands at its own angle from sample 0: the first is the most alike."""
    rows = np.arange(1, len(same) + 1)
    listed = Pairs(np.zeros(len(same), np.int64), rows, np.array(same, bool), np.array(fold))
    return _at(0, *(10 * rows)), listed


def test_length_does_not_count() -> None:
    assert unit_length(np.array([[3.0, 4.0], [0.0, 0.0]])).tolist() == [[0.6, 0.8], [0.0, 0.0]]
    found = [verification_metrics(_at(0, 10, 50, 70) * length, all_pairs(np.array([0, 0, 1, 1]))) for length in (1, 9)]
    assert found[0] == pytest.approx(found[1])


def test_all_pairs_are_every_sample_with_every_other_dealt_to_the_folds_by_kind() -> None:
    pairs = all_pairs(np.array([7, 7, 7, 9]))
    assert list(zip(pairs.first, pairs.second, strict=True)) == [(0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)]
    assert pairs.same.tolist() == [True, True, False, True, False, False]
    assert pairs.fold.tolist() == [0, 1, 0, 2, 1, 2]
    assert len(all_pairs(np.array([1]))) == 0


def test_of_too_many_pairs_every_nth_is_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_PAIRS", 2)
    pairs = all_pairs(np.array([7, 7, 7, 9]))
    assert list(zip(pairs.first, pairs.second, strict=True)) == [(0, 1), (1, 2)]


def test_auc_is_the_chance_that_a_same_pair_is_more_alike() -> None:
    # Same pairs at places 1, 2, 4 and different ones at 3, 5: of the 6 couples only (4, 3) is the wrong way round.
    found = verification_metrics(*_pairs([1, 1, 0, 1, 0], [0, 1, 0, 1, 1]))
    assert found["auc"] == pytest.approx(5 / 6)


def test_equally_alike_pairs_count_one_half() -> None:
    # All embeddings are one: nothing is told apart.
    found = verification_metrics(np.ones((4, 2)), all_pairs(np.array([0, 0, 1, 1])))
    assert found == {"auc": 0.5, "accuracy": 0.5}


def test_each_fold_is_decided_by_the_threshold_of_the_others() -> None:
    # By likeness: fold 0 has same, same, different, different; fold 1 has same, different, same, different.
    # The best threshold of fold 1 alone is behind its first pair (3/4), which is the second of all: it lets pass one
    # same pair of fold 0, and none of its different ones: 3/4. That of fold 0 is behind its second pair, the third of
    # all, and lets pass one same pair of fold 1 and none of its different ones: 3/4.
    found = verification_metrics(*_pairs([1, 1, 1, 0, 0, 0, 1, 0], [0, 1, 0, 1, 0, 0, 1, 1]))
    assert found["accuracy"] == pytest.approx(0.75)
    # Fold 0 puts its threshold behind the first of all, where nothing of fold 1 has passed; fold 1 above everything.
    assert verification_metrics(*_pairs([1, 0, 0, 1], [0, 0, 1, 1]))["accuracy"] == pytest.approx((0.5 + 0.5) / 2)


def test_same_and_different_pairs_count_half_each_however_many() -> None:
    same, fold = [1, 0, 0, 0, 0, 1, 0, 0, 0, 0], [0, 0, 0, 0, 0, 1, 1, 1, 1, 1]
    # Fold 1 puts its threshold behind place 6, where all four different pairs of fold 0 have passed: (1 + 0) / 2.
    # Fold 0 puts it behind place 1, where nothing of fold 1 has passed: (0 + 1) / 2.
    assert verification_metrics(*_pairs(same, fold))["accuracy"] == pytest.approx(0.5)


def test_without_both_kinds_of_pairs_verification_is_undefined() -> None:
    for identity in ([1, 1], [1, 2], [1], []):
        rows = np.array(identity, np.int64)
        found = verification_metrics(np.ones((len(rows), 2)), all_pairs(rows))
        assert np.isnan(list(found.values())).all()


def test_a_drawn_group_counts_its_own_pairs_once_a_draw_and_shared_ones_by_the_product() -> None:
    # Two people of two pictures each; a resample has either both once, or one of them twice, which leaves no pairs of
    # different people. So every defined resample is the sample itself.
    x, pairs, person = _at(0, 30, 20, 70), all_pairs(np.array([0, 0, 1, 1])), np.array([0, 0, 1, 1])
    whole = verification_metrics(x, pairs)
    # Same pairs are 30 and 50 degrees apart, different ones 20, 70, 10 and 40.
    assert whole["auc"] == pytest.approx((2 + 1) / 8)
    found = verification_intervals(x, pairs, seed=1, group=person)
    assert found["auc"] == pytest.approx((3 / 8, 3 / 8))


def test_intervals_hold_the_figure_and_are_wider_for_whole_people() -> None:
    rng = rng_for(1, "people")
    person = np.repeat(np.arange(15), 10)
    x = rng.normal(size=(15, 4))[person] + 0.7 * rng.normal(size=(150, 4))
    pairs = all_pairs(person)
    figure = verification_metrics(x, pairs)
    alone = verification_intervals(x, pairs, seed=2)
    grouped = verification_intervals(x, pairs, seed=2, group=person)
    for name, value in figure.items():
        assert grouped[name][0] < value < grouped[name][1]
        assert grouped[name][1] - grouped[name][0] > 1.2 * (alone[name][1] - alone[name][0])


def test_rank_1_and_average_precision_of_a_search() -> None:
    # From 0°: right at 10°, wrong at 20°, right at 30°: first is right, precisions 1 and 2/3.
    # From 21°: wrong at 20°, then right at 30° and 10°: precisions 1/2 and 2/3.
    query, gallery = _at(0, 21), _at(10, 20, 30)
    correct = np.array([[True, False, True]] * 2)
    found = retrieval_metrics(query, gallery, correct=correct, allowed=np.ones((2, 3), bool))
    assert found["rank1"] == pytest.approx(1 / 2)
    assert found["mAP"] == pytest.approx(((1 + 2 / 3) / 2 + (1 / 2 + 2 / 3) / 2) / 2)


def test_what_is_not_allowed_is_left_out_and_a_query_without_an_answer_does_not_count() -> None:
    query, gallery = _at(0, 0), _at(0, 20, 30)
    correct = np.array([[True, False, True], [True, False, False]])
    allowed = np.array([[False, True, True]] * 2)
    assert retrieval_metrics(query, gallery, correct=correct, allowed=allowed) == {"rank1": 0.0, "mAP": 0.5}


def test_of_equally_similar_entries_the_wrong_ones_come_first() -> None:
    correct = np.array([[True, False, False, False]])
    found = retrieval_metrics(np.ones((1, 2)), np.ones((4, 2)), correct=correct, allowed=np.ones((1, 4), bool))
    assert found == {"rank1": 0.0, "mAP": 0.25}


def test_without_anything_to_find_retrieval_is_undefined() -> None:
    for queries in (0, 2):
        shape = (queries, 3)
        nothing, everything = np.zeros(shape, bool), np.ones(shape, bool)
        found = retrieval_metrics(np.ones((queries, 2)), np.ones((3, 2)), correct=nothing, allowed=everything)
        assert np.isnan(list(found.values())).all()


def test_more_queries_than_fit_at_once_are_searched_alike() -> None:
    rng = rng_for(1, "queries")
    query, gallery = rng.normal(size=(600, 4)), rng.normal(size=(30, 4))
    correct, allowed = rng.random((600, 30)) < 0.1, rng.random((600, 30)) < 0.8
    whole = retrieval_metrics(query, gallery, correct=correct, allowed=allowed)
    asked = (correct & allowed).any(axis=1)
    singly = [
        retrieval_metrics(query[i : i + 1], gallery, correct=correct[i : i + 1], allowed=allowed[i : i + 1])
        for i in np.flatnonzero(asked)
    ]
    for name, value in whole.items():
        assert value == pytest.approx(np.mean([one[name] for one in singly]))


def test_intervals_of_a_search_draw_the_queries() -> None:
    rng = rng_for(1, "hits")
    hit = rng.random(400) < 0.3
    query = np.where(hit[:, None], [[1.0, 0.0]], [[0.0, 1.0]])
    correct = np.tile([[True, False]], (400, 1))
    low, high = retrieval_intervals(query, np.eye(2), correct=correct, allowed=np.ones((400, 2), bool), seed=1)["rank1"]
    spread = np.sqrt(hit.mean() * (1 - hit.mean()) / 400)
    assert low == pytest.approx(hit.mean() - 1.96 * spread, abs=0.01)
    assert high == pytest.approx(hit.mean() + 1.96 * spread, abs=0.01)


def test_of_many_thresholds_every_nth_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    x, pairs = _pairs([1, 1, 1, 0, 0, 0], [0, 1, 0, 1, 0, 1])
    # Fold 1 chooses to pass 2 of the six, which is right for 3/4 of fold 0; that chooses 3, which is right for fold 1.
    assert verification_metrics(x, pairs)["accuracy"] == pytest.approx((3 / 4 + 1) / 2)
    # With 2, 4 or 6 to choose from, fold 0 chooses 4, of which one is a different pair of fold 1.
    monkeypatch.setattr(module, "MOST_THRESHOLDS", 3)
    found = verification_metrics(x, pairs)
    assert found == pytest.approx({"auc": 1.0, "accuracy": (3 / 4 + 3 / 4) / 2})
