"""Perspectives, by places worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from edgebench.tasks.signs.warp import Floats, perspectives, warped

PICTURE = np.arange(4 * 4 * 4, dtype=np.uint8).reshape(1, 4, 4, 4)
HERE = np.array([0])


def seen_by(**change: float | list[float]) -> Floats:
    straight: dict[str, float | list[float]] = {
        "turn": 0, "zoom": 1, "shift": [0, 0], "stretch": 1, "shear": 0, "tilt": [0, 0]
    }  # fmt: skip
    return perspectives(**{name: np.array([value], np.float32) for name, value in (straight | change).items()})


def test_straight_ahead_a_picture_is_itself() -> None:
    assert np.array_equal(warped(PICTURE, HERE, seen_by(), 4), PICTURE)


def test_half_as_many_pixels_are_means_of_four() -> None:
    smaller = warped(PICTURE, HERE, seen_by(), 2)
    assert smaller == pytest.approx(PICTURE.reshape(1, 2, 2, 2, 2, 4).mean(axis=(2, 4)))


def test_a_shift_by_half_a_picture_moves_two_of_four_columns_and_the_edge_goes_on() -> None:
    # To the right by 1 of the 2 that a picture is wide.
    moved = warped(PICTURE, HERE, seen_by(shift=[1, 0]), 4)
    assert moved == pytest.approx(PICTURE[:, :, [0, 0, 0, 1]], abs=1e-4)


def test_a_quarter_turn_brings_the_top_to_the_right() -> None:
    turned = warped(PICTURE, HERE, seen_by(turn=np.pi / 2), 4)
    assert turned == pytest.approx(np.rot90(PICTURE, -1, axes=(1, 2)), abs=1e-3)


def test_a_picture_twice_as_large_shows_its_middle() -> None:
    assert warped(PICTURE, HERE, seen_by(zoom=2), 2) == pytest.approx(PICTURE[:, 1:3, 1:3], abs=1e-4)


def test_what_is_nearer_is_larger() -> None:
    # A bar of 16 pixels: with the right edge nearer by a fifth it is 1.2 times as high there, and 0.8 at the left.
    bar = np.zeros((1, 64, 64, 4), np.uint8)
    bar[:, 24:40] = 255
    heights = (warped(bar, HERE, seen_by(tilt=[0.2, 0]), 64)[0, ..., 0] > 127).sum(axis=0)
    assert heights[0] == pytest.approx(16 * 0.8, abs=1.5)
    assert heights[32] == 16
    assert heights[-1] == pytest.approx(16 * 1.2, abs=1.5)


def test_each_sample_is_of_its_own_picture() -> None:
    two = np.concatenate([PICTURE, PICTURE + 100])
    matrices = np.repeat(seen_by(), 3, axis=0)
    assert np.array_equal(warped(two, np.array([1, 0, 1]), matrices, 4), two[[1, 0, 1]])
