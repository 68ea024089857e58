"""The same action by another person, at another pace, before a camera that stands elsewhere."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgebench.tasks.actions.skeletons import from_bytes, to_bytes

_TURN_RAD = np.deg2rad(25)
_TILT_RAD = np.deg2rad(8)
_PACE = 0.25
_CUT = 0.15
_SIZE = 0.1
_LIMB = 0.05
_NOISE = 0.01
_SHIFT = 1 / 14


def distorted(x: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Samples of either kind, skeletons [sample, joint, step, 3] or frames [sample, frame, height, width, 3]."""
    return distorted_frames(x, rng) if x.ndim == 5 else to_bytes(distorted_skeletons(from_bytes(x), rng))


def distorted_skeletons(x: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    """[sample, joint, step, 3]: turned about the vertical axis, tilted, stretched in time and space, noisy."""
    samples, joints, _, _ = x.shape
    paced = _at(x, _pace(samples, x.shape[2], rng))
    turned = np.einsum("njtc,ncd->njtd", paced, _rotations(samples, rng), optimize=True)
    stretched = turned * rng.uniform(1 - _SIZE, 1 + _SIZE, (samples, 1, 1, 3))
    moved = stretched + _LIMB * rng.normal(size=(samples, joints, 1, 3))
    return (moved + _NOISE * rng.normal(size=x.shape)).astype(np.float32)


def distorted_frames(x: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """[sample, frame, height, width, 3]: every second one mirrored, all shifted a little, the frames of one alike."""
    samples, _, height, width, _ = x.shape
    mirrored = np.where(rng.random((samples, 1)) < 0.5, np.arange(width)[::-1], np.arange(width))
    down, right = (
        np.clip(np.arange(size) + rng.integers(-int(size * _SHIFT), int(size * _SHIFT) + 1, (samples, 1)), 0, size - 1)
        for size in (height, width)
    )
    columns = np.take_along_axis(mirrored, right, axis=1)
    sample = np.arange(samples)[:, None, None]
    # Two indexed axes with a slice between them: NumPy puts the indexed ones first.
    return x[sample, :, down[:, :, None], columns[:, None, :]].transpose(0, 3, 1, 2, 4)


def _pace(samples: int, steps: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """When each step happens, in [0, 1]: [sample, step]. Slower here, faster there, and cut at both ends."""
    even = np.linspace(0, 1, steps)
    skew = rng.uniform(-_PACE, _PACE, (samples, 1)) * np.sin(np.pi * even) / np.pi
    swing = rng.uniform(-_PACE, _PACE, (samples, 1)) * np.sin(2 * np.pi * even) / (4 * np.pi)
    first, last = (rng.uniform(-0.3 * _CUT, _CUT, (samples, 1)) for _ in range(2))
    return np.clip(first + (even + skew + swing) * (1 - first - last), 0, 1)


def _at(x: NDArray[np.float32], when: NDArray[np.float64]) -> NDArray[Any]:
    place = when * (x.shape[2] - 1)
    before = place.astype(np.int64)
    after = np.minimum(before + 1, x.shape[2] - 1)
    share = (place - before)[:, None, :, None]
    early, late = (np.take_along_axis(x, each[:, None, :, None], axis=2) for each in (before, after))
    return early * (1 - share) + late * share


def _rotations(samples: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """[sample, 3, 3], to multiply rows from the left: about the vertical axis, then about the one to the right."""
    turn, tilt = rng.uniform(-_TURN_RAD, _TURN_RAD, samples), rng.uniform(-_TILT_RAD, _TILT_RAD, samples)
    about_y, about_x = np.zeros((2, samples, 3, 3))
    about_y[:, 1, 1] = about_x[:, 0, 0] = 1
    about_y[:, 0, 0] = about_y[:, 2, 2] = np.cos(turn)
    about_y[:, 0, 2], about_y[:, 2, 0] = np.sin(turn), -np.sin(turn)
    about_x[:, 1, 1] = about_x[:, 2, 2] = np.cos(tilt)
    about_x[:, 2, 1], about_x[:, 1, 2] = np.sin(tilt), -np.sin(tilt)
    return about_y @ about_x
