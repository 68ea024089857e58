"""The parts of a capsule network, by numbers worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
from keras import ops

from edgebench.tasks.signs.capsules import agreed, lengths, margin_loss, primary_capsules, squash


def test_squashing_keeps_directions_and_makes_lengths_shares_of_one() -> None:
    # |s|² / (1 + |s|²) of length 5 is 25 / 26, and of length 1 a half.
    squashed = ops.convert_to_numpy(squash(np.array([[3.0, 4.0], [0.0, -1.0], [0.0, 0.0]], np.float32)))
    expected = [[3 / 5 * 25 / 26, 4 / 5 * 25 / 26], [0, -0.5], [0, 0]]
    assert squashed == pytest.approx(np.array(expected), abs=1e-4)
    assert ops.convert_to_numpy(lengths(squashed)) == pytest.approx(np.array([25 / 26, 0.5, 0]), abs=1e-3)


def test_primary_capsules_take_neighbouring_channels_of_a_place() -> None:
    features = np.arange(2 * 2 * 6, dtype=np.float32).reshape(1, 2, 2, 6)
    capsules = ops.convert_to_numpy(primary_capsules(features, 3))
    assert capsules.shape == (1, 8, 3)
    last = np.array([21.0, 22.0, 23.0])
    square = (last**2).sum()
    assert capsules[0, -1] == pytest.approx(last / np.sqrt(square) * square / (1 + square), abs=1e-4)


def test_routing_gives_more_to_what_agrees() -> None:
    # Two capsules below, two above of size 1. Of the first both predict 2; of the second one predicts 2, the other −2.
    predicted = np.array([[[[2.0], [2.0]], [[2.0], [-2.0]]]], np.float32)
    # Round 1, even shares: sums 2 and 0, squashed 0.8 and 0; agreement grows by 2 · 0.8 and 0, for both below.
    # Round 2, shares e^1.6 / (e^1.6 + 1) = 0.8320 and 0.1680: sums 3.3281 and 0.
    share = np.exp(1.6) / (np.exp(1.6) + 1)
    two = ops.convert_to_numpy(agreed(predicted, iterations=2))[0, :, 0]
    square = (4 * share) ** 2
    assert two == pytest.approx([square / (1 + square), 0], abs=1e-4)
    # Round 3: agreement has grown by 2 · 0.9172 = 1.8344 more.
    share = 1 / (1 + np.exp(-(1.6 + 2 * square / (1 + square))))
    three = ops.convert_to_numpy(agreed(predicted, iterations=3))[0, :, 0]
    assert three == pytest.approx([(4 * share) ** 2 / (1 + (4 * share) ** 2), 0], abs=1e-4)


def test_lengths_beyond_their_margins_cost_nothing() -> None:
    # 0.9 for class 1 and 0.1 for others is right; 0.5 for class 0 lacks 0.4; 0.3 for another is 0.2 too long.
    given = np.array([[0.1, 0.95, 0.0], [0.5, 0.3, 0.1]], np.float32)
    labels = np.array([[1], [0]], np.float32)
    losses = ops.convert_to_numpy(margin_loss(labels, given))
    assert losses == pytest.approx(np.array([0.0, 0.4**2 + 0.5 * 0.2**2]), abs=1e-6)
