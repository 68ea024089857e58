"""Samples are distorted as other people and other cameras would."""

from __future__ import annotations

import numpy as np
import pytest

from edgebench.seeds import rng_for
from edgebench.tasks.actions.augment import distorted, distorted_frames, distorted_skeletons
from edgebench.tasks.actions.skeletons import JOINTS, SHAPE
from edgebench.tasks.task import Dataset


def test_a_distorted_skeleton_is_still_one(data: Dataset) -> None:
    x = data.valid.x[:40]
    changed = distorted(x, rng_for(1, "augment"))
    assert changed.shape == x.shape
    assert changed.dtype == np.uint8
    assert np.array_equal(changed, distorted(x, rng_for(1, "augment")))
    moved = np.abs(changed.astype(float) - x).mean(axis=(1, 2, 3))
    # On average between 1 cm and 10 cm (a level is 1.2 cm), each sample in its own way.
    assert ((moved > 1) & (moved < 10)).all()
    assert len(np.unique(moved)) == 40


def test_skeletons_turn_about_their_hip_and_keep_their_height() -> None:
    x = np.zeros((200, *SHAPE), np.float32)
    hand = JOINTS.index("left hand")
    x[:, hand] = (1, 0, 0)
    turned = distorted_skeletons(x, rng_for(2, "augment"))[:, hand].mean(axis=1)
    angle = np.degrees(np.arctan2(turned[:, 2], turned[:, 0]))
    # 25 degrees, and what a limb moves by: 0.05, hence 3 degrees, a few times over.
    assert 20 < np.abs(angle).max() < 36
    assert angle.mean() == pytest.approx(0, abs=4)
    assert np.linalg.norm(turned, axis=1) == pytest.approx(1, abs=0.35)
    assert turned[:, 1].std() < 0.08


def test_the_pace_changes_and_time_does_not_run_back() -> None:
    x = np.zeros((50, *SHAPE), np.float32)
    x[..., 1] = np.linspace(0, 1, SHAPE[1])
    seen = distorted_skeletons(x, rng_for(3, "augment"))[..., 1].mean(axis=1)
    smooth = (seen[:, 4:] - seen[:, :-4]) / 4
    assert (smooth > -0.005).all()
    assert len(np.unique(seen[:, 24].round(3))) > 20


def test_frames_are_mirrored_or_not_and_shifted_by_a_fourteenth() -> None:
    """A picture that tells its columns by red and its rows by green."""
    side = 28
    x = np.zeros((60, 2, side, side, 3), np.uint8)
    x[..., 0], x[..., 1] = np.arange(side), np.arange(side)[:, None]
    changed = distorted_frames(x, rng_for(4, "augment"))
    assert changed.shape == x.shape
    assert changed.dtype == np.uint8
    assert np.array_equal(changed[:, 0], changed[:, 1])
    columns, rows = changed[:, 0, 14, 4:-4, 0].astype(int), changed[:, 0, 4:-4, 14, 1].astype(int)
    rising = np.diff(columns, axis=1)
    assert {*np.unique(rising)} == {-1, 1}
    assert (rising == rising[:, :1]).all()
    assert {*np.unique(np.diff(rows, axis=1))} == {1}
    assert {*np.unique(rows[:, 0] - 4)} == {-2, -1, 0, 1, 2}
    assert changed[..., 0].max() == side - 1
