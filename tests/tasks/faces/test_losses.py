"""The losses, worked out by hand on few embeddings."""

from __future__ import annotations

import numpy as np
import pytest
from keras import ops

from edgebench.tasks.faces.losses import Directions, angular_margin, semi_hard_triplets


def _at(*degrees: float) -> np.ndarray:
    angle = np.deg2rad(degrees)
    return np.stack([np.cos(angle), np.sin(angle)], axis=1).astype(np.float32)


def _values(loss: object) -> np.ndarray:
    return ops.convert_to_numpy(loss)


def test_directions_give_cosines_whatever_their_length() -> None:
    layer = Directions(2)
    layer.build((None, 2))
    layer.set_weights([np.array([[3.0, 0.0], [0.0, 0.5]], np.float32)])
    assert _values(layer(_at(0, 60))) == pytest.approx(np.array([[1, 0], [0.5, np.sqrt(3) / 2]]), abs=1e-6)


def test_the_angle_to_the_own_direction_is_made_larger() -> None:
    # 40° to the own direction count as 60°, whose cosine is 1/2; 90° to the other one stay.
    cosines = np.array([[np.cos(np.deg2rad(40)), 0.0]], np.float32)
    loss = _values(angular_margin(1.5, 4.0)(np.array([[0]]), cosines))
    assert loss == pytest.approx(np.log(1 + np.exp(-2)), abs=1e-5)
    # 150° would count as 225°, and is cut at 180°, whose cosine is −1.
    cosines = np.array([[0.0, np.cos(np.deg2rad(150))]], np.float32)
    loss = _values(angular_margin(1.5, 4.0)(np.array([[1]]), cosines))
    assert loss == pytest.approx(np.log(1 + np.exp(4)), abs=1e-5)


def test_without_a_margin_the_loss_is_cross_entropy() -> None:
    cosines = np.array([[0.2, 0.7], [0.9, -0.4]], np.float32)
    loss = _values(angular_margin(1.0, 10.0)(np.array([1, 1]), cosines))
    assert loss == pytest.approx(np.log(1 + np.exp([-5, 13])), abs=1e-4)


def test_the_negative_is_the_nearest_that_is_farther_than_the_positive() -> None:
    # Squared distances: 2 − 2 cos. Anchor 0° and positive 60° are 1 apart. Of the others 30° is nearer, 90° (2 apart)
    # the nearest that is farther, 180° (4 apart) farther still: 1 − 2 + 1.5 = 0.5.
    # Anchor 60° and positive 0°: 30° and 90° are nearer, 180° is 3 apart: 1 − 3 + 1.5 < 0, no cost.
    x, person = _at(0, 60, 30, 90, 180), np.array([0, 0, 1, 2, 3])
    costs = _values(semi_hard_triplets(1.5)(person, x))
    # The mean over the five anchors is that over the two couples.
    assert costs.mean() == pytest.approx(0.5 / 2, abs=1e-4)


def test_where_all_negatives_are_nearer_the_farthest_of_them_counts() -> None:
    # 0° and 90° are 2 apart; from 0°, 60° (1 apart) is the farthest other: 2 − 1 + 0.2. From 90°, 45°: 2 − √2 ….
    x, person = _at(0, 90, 45, 60), np.array([0, 0, 1, 2])
    costs = _values(semi_hard_triplets(0.2)(person, x))
    assert costs.mean() == pytest.approx((1.2 + 2 - (2 - np.sqrt(2)) + 0.2) / 2, abs=1e-4)


def test_a_batch_without_two_of_a_person_costs_nothing() -> None:
    assert _values(semi_hard_triplets(0.2)(np.array([0, 1]), _at(0, 10))).tolist() == [0.0, 0.0]
