"""AUROC, AUPRC and their intervals, against numbers worked out by hand and against scikit-learn."""

from __future__ import annotations

import math

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from edgebench.seeds import rng_for
from edgebench.tasks.metrics import binary_intervals, binary_metrics


def _column(*values: float) -> np.ndarray:
    return np.array(values, np.float32)[:, None]


def test_three_of_four_pairs_in_order_give_three_quarters() -> None:
    # By falling score the labels read 1 0 1 0: precision 1 at recall 1/2, 2/3 at recall 1.
    found = binary_metrics(_column(0.9, 0.7, 0.6, 0.1), _column(1, 0, 1, 0))
    assert found == pytest.approx({"auroc": 0.75, "auprc": 0.5 * 1 + 0.5 * 2 / 3})


def test_equal_scores_count_one_half() -> None:
    found = binary_metrics(_column(0.5, 0.5, 0.5, 0.5), _column(1, 0, 0, 0))
    assert found == pytest.approx({"auroc": 0.5, "auprc": 0.25})


def test_metrics_are_undefined_with_one_label_only() -> None:
    for labels in ([], [1, 1], [0, 0]):
        found = binary_metrics(_column(*[0.3] * len(labels)), _column(*labels))
        assert math.isnan(found["auroc"])
        assert math.isnan(found["auprc"])


def test_metrics_agree_with_scikit_learn_where_scores_tie() -> None:
    rng = rng_for(1, "test")
    labels = (rng.random(500) < 0.2).astype(np.float32)
    scores = np.round(rng.normal(labels, 1), 1).astype(np.float32)
    found = binary_metrics(scores, labels)
    assert found["auroc"] == pytest.approx(roc_auc_score(labels, scores))
    assert found["auprc"] == pytest.approx(average_precision_score(labels, scores))


def test_outputs_without_a_label_each_are_refused() -> None:
    with pytest.raises(ValueError, match="3 outputs for 2 labels"):
        binary_metrics(_column(0.1, 0.2, 0.3), _column(0, 1))


def test_an_interval_holds_the_value_and_repeats_with_its_seed() -> None:
    rng = rng_for(2, "test")
    labels = (rng.random(400) < 0.3).astype(np.float32)
    scores = rng.normal(labels, 1).astype(np.float32)
    low, high = binary_intervals(scores, labels, seed=5)["auroc"]
    assert low < binary_metrics(scores, labels)["auroc"] < high
    # Hanley and McNeil's standard error for these counts is 0.027: the interval is some four of them wide.
    assert 0.08 < high - low < 0.14
    assert binary_intervals(scores, labels, seed=5)["auroc"] == (low, high)
    assert binary_intervals(scores, labels, seed=6)["auroc"] != (low, high)


def test_samples_that_repeat_one_patient_do_not_narrow_the_interval() -> None:
    rng = rng_for(3, "test")
    labels = (rng.random(200) < 0.3).astype(np.float32)
    scores = rng.normal(labels, 1).astype(np.float32)
    once = binary_intervals(scores, labels, seed=1)["auroc"]
    patient = np.repeat(np.arange(200), 10)
    many = np.repeat(scores, 10), np.repeat(labels, 10)
    assert binary_intervals(*many, seed=1, group=patient)["auroc"] == pytest.approx(once)
    low, high = binary_intervals(*many, seed=1)["auroc"]
    assert high - low < 0.5 * (once[1] - once[0])


def test_an_interval_of_undefined_metrics_is_undefined() -> None:
    found = binary_intervals(_column(0.2, 0.4), _column(0, 0), seed=1)
    assert all(math.isnan(bound) for interval in found.values() for bound in interval)
