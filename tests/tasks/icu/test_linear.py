"""The convex part of a network."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from edgebench.seeds import rng_for
from edgebench.tasks.icu.linear import PRIOR_VARIANCE, fit_linear


def test_newton_finds_what_scikit_learn_finds() -> None:
    rng = rng_for(1, "test")
    x = rng.normal(size=(300, 20)).astype(np.float32)
    y = (x[:, 0] - x[:, 1] + rng.normal(size=300) > 1).astype(np.float32)
    weight, bias = fit_linear(x, y)
    # Scikit-learn's C is the prior variance of a weight.
    reference = LogisticRegression(C=PRIOR_VARIANCE / 20, tol=1e-8, max_iter=1_000).fit(x, y)
    assert weight == pytest.approx(reference.coef_[0], abs=1e-3)
    assert bias == pytest.approx(reference.intercept_[0], abs=1e-3)


def test_features_without_information_leave_the_share_of_positives() -> None:
    weight, bias = fit_linear(np.zeros((8, 3), np.float32), np.array([1, 1, 0, 0, 0, 0, 0, 0], np.float32))
    assert weight.tolist() == [0, 0, 0]
    assert 1 / (1 + np.exp(-bias)) == pytest.approx(0.25)


def test_samples_that_say_the_same_twice_count_half() -> None:
    rng = rng_for(2, "test")
    x = rng.normal(size=(60, 5)).astype(np.float32)
    y = (rng.random(60) < 0.4).astype(np.float32)
    once, bias = fit_linear(x, y)
    twice, bias_of_twice = fit_linear(np.repeat(x, 2, axis=0), np.repeat(y, 2), weight=0.5)
    assert twice == pytest.approx(once)
    assert bias_of_twice == pytest.approx(bias)


def test_one_label_alone_gives_a_finite_model() -> None:
    weight, bias = fit_linear(np.ones((5, 2), np.float32), np.zeros(5, np.float32))
    assert np.isfinite([*weight, bias]).all()
    assert bias < -1
