"""The threshold of a cascade: as little is forwarded as its target allows."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from cloud.cascading import calibrated

# Ten yeses. The small model is wrong where it is least sure; the large one is wrong on the last sample only.
LABELS = np.ones(10, np.float32)
LIGHT = np.array([0.45, 0.40, 0.45, 0.60, 0.70, 0.75, 0.80, 0.85, 0.90, 0.95], np.float32)[:, None]
HEAVY = np.array([0.90, 0.90, 0.90, 0.90, 0.90, 0.90, 0.90, 0.90, 0.90, 0.10], np.float32)[:, None]


def accuracy(outputs: NDArray[np.float32]) -> float:
    return float(((outputs[:, 0] > 0.5) == (LABELS > 0.5)).mean())


def test_the_least_sure_samples_are_forwarded_until_the_target_is_reached() -> None:
    found = calibrated(LIGHT, HEAVY, accuracy, 0.9)
    # Confidence is 0.55, 0.60, 0.55, 0.60, 0.70, …: the two of 0.55 alone make 9 of 10 right.
    assert found.forwarded == pytest.approx(0.2)
    assert 0.55 < found.threshold <= 0.60
    assert (found.quality, found.target) == (0.9, 0.9)
    assert (found.light_quality, found.heavy_quality) == (0.7, 0.9)


def test_the_two_together_may_be_better_than_either() -> None:
    found = calibrated(LIGHT, HEAVY, accuracy, 1.0)
    # Both of 0.60 have to go, the right one too; the sure ones stay, and with them the sample that HEAVY has wrong.
    assert found.forwarded == pytest.approx(0.4)
    assert found.quality == 1.0


def test_without_a_target_nearly_the_quality_of_the_larger_model_is_wanted() -> None:
    found = calibrated(LIGHT, HEAVY, accuracy, None)
    assert found.target == pytest.approx(0.895)
    assert found.forwarded == pytest.approx(0.2)


def test_a_small_model_that_is_as_good_forwards_nothing() -> None:
    found = calibrated(HEAVY, LIGHT, accuracy, 0.9)
    assert (found.forwarded, found.threshold) == (0.0, 0.0)


def test_a_target_out_of_reach_gets_the_best_there_is() -> None:
    found = calibrated(LIGHT, HEAVY, accuracy, 1.5)
    assert found.quality == 1.0
    assert found.forwarded == pytest.approx(0.4)
