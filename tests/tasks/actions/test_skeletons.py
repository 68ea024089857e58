"""Skeletons become pictures that do not depend on who moves, where, and for how long."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from edgebench.seeds import rng_for
from edgebench.tasks.actions.skeletons import JOINTS, SHAPE, STEPS, from_bytes, normalised, to_bytes

HAND, HIP, NECK = (JOINTS.index(name) for name in ("right hand", "hip centre", "neck"))


def standing(
    frames: int, *, torso: float = 0.5, at: tuple[float, float, float] = (0.3, 0.1, 2.5)
) -> NDArray[np.float64]:
    """[frame, joint, 3]: all joints in the hip, the neck above it, the hand at its right, farther by 0.1 a frame."""
    found = np.zeros((frames, len(JOINTS), 3))
    found[:, NECK, 1] = torso
    found[:, HAND, 0] = 0.1 * np.arange(frames)
    return found + at


def test_places_are_torsos_from_the_hip_and_time_is_resampled() -> None:
    (moving,) = normalised(standing(6), np.array([6]))
    assert moving.shape == SHAPE == (20, 48, 3)
    assert moving.dtype == np.float32
    assert not moving[HIP].any()
    assert moving[NECK] == pytest.approx(np.tile([0, 1, 0], (STEPS, 1)))
    # From 0 to 0.5 m evenly, with a torso of 0.5 m.
    assert moving[HAND, :, 0] == pytest.approx(np.linspace(0, 1, STEPS))


def test_sequences_of_any_length_are_normalised_as_if_alone() -> None:
    sequences = [standing(6), standing(1), standing(90, torso=0.4, at=(0, 0, 3))]
    together = normalised(np.concatenate(sequences), np.array([6, 1, 90]))
    alone = [normalised(each, np.array([len(each)]))[0] for each in sequences]
    assert np.array_equal(together, np.stack(alone))
    assert not together[1, HAND].any()
    assert together[2, HAND, -1, 0] == pytest.approx(8.9 / 0.4)


def test_frames_of_zeros_count_for_nothing() -> None:
    holed = np.insert(standing(6), [0, 3, 3, 6], 0, axis=0)
    assert np.array_equal(normalised(holed, np.array([10])), normalised(standing(6), np.array([6])))


def test_a_torso_has_its_median_length() -> None:
    frames = standing(5)
    frames[3, NECK, 1] += 40  # seen at the ceiling, once
    assert normalised(frames, np.array([5]))[0, NECK, 0, 1] == pytest.approx(1)


def test_bytes_hold_a_torso_in_42_levels_and_cut_what_is_beyond_three() -> None:
    places = np.array([0, 1, -1, 0.011, 0.013, 3.5, -3.5], np.float32)
    assert to_bytes(places).tolist() == [128, 170, 86, 128, 129, 255, 0]
    inside = rng_for(1, "places").uniform(-3, 3, 1_000).astype(np.float32)
    assert np.abs(from_bytes(to_bytes(inside)) - inside).max() <= 0.5 / 42 + 1e-6
