"""Metrics of decisions between classes, and intervals of ratios."""

from __future__ import annotations

import tracemalloc

import numpy as np

from edgebench.seeds import rng_for
from edgebench.tasks.metrics import class_intervals, class_metrics, ratio_intervals


def test_top_1_and_top_5_count_the_likeliest_classes() -> None:
    outputs = np.array([[6, 5, 4, 3, 2, 1], [6, 5, 4, 3, 2, 1], [1, 2, 3, 4, 5, 6]], np.float32)
    labels = np.array([[0], [4], [0]], np.float32)
    assert class_metrics(outputs, labels) == {"top1": 1 / 3, "top5": 2 / 3}


def test_of_equal_outputs_the_first_class_counts_as_likelier() -> None:
    outputs = np.ones((2, 2), np.float32)
    assert class_metrics(outputs, np.array([[0], [1]], np.float32)) == {"top1": 0.5, "top5": 1.0}


def test_without_a_sample_the_shares_are_undefined() -> None:
    found = class_metrics(np.zeros((0, 3), np.float32), np.zeros((0, 1), np.float32))
    assert np.isnan(list(found.values())).all()


def test_the_interval_of_a_share_is_that_of_its_binomial() -> None:
    rng = rng_for(1, "shares")
    labels = (rng.random((400, 1)) < 0.25).astype(np.float32)
    outputs = np.tile(np.array([[1.0, 0.0]], np.float32), (400, 1))
    low, high = class_intervals(outputs, labels, seed=3)["top1"]
    share = 1 - labels.mean()
    spread = np.sqrt(share * (1 - share) / 400)
    assert abs(low - (share - 1.96 * spread)) < 0.01
    assert abs(high - (share + 1.96 * spread)) < 0.01


def test_where_whole_groups_are_drawn_the_interval_is_that_of_few_samples() -> None:
    values = np.repeat([0.0, 1.0] * 5, 100)
    group = np.repeat(np.arange(10), 100)
    ones = np.ones(len(values))
    alone = ratio_intervals({"mean": (values, ones)}, seed=1)["mean"]
    grouped = ratio_intervals({"mean": (values, ones)}, seed=1, group=group)["mean"]
    assert grouped[1] - grouped[0] > 5 * (alone[1] - alone[0])


def test_a_ratio_weighs_samples_by_what_is_below() -> None:
    errors, words = np.array([1.0, 0.0]), np.array([1.0, 99.0])
    low, high = ratio_intervals({"wer": (errors, words)}, seed=1)["wer"]
    assert low == 0.0
    assert high == 1.0


def test_intervals_of_no_samples_are_undefined() -> None:
    none = np.zeros(0)
    assert np.isnan(ratio_intervals({"wer": (none, none)}, seed=1)["wer"]).all()


def test_an_interval_of_many_samples_takes_little_memory() -> None:
    n = 20_000
    tracemalloc.start()
    try:
        low, high = ratio_intervals({"mean": (np.arange(n) % 2 * 1.0, np.ones(n))}, seed=1)["mean"]
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert 0.49 < low < 0.5 < high < 0.51
    assert most < 10_000_000, "all resamples at once would take 320 MB"
