"""The variety that training adds to pictures of pedestrians."""

from __future__ import annotations

from itertools import permutations

import numpy as np
from numpy.typing import NDArray

COLOURINGS = tuple(permutations(range(3)))
"""Orders of the channels. People whose clothes have other colours are other people: so few become several times as
many."""


def recoloured(x: NDArray[np.uint8], colouring: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Pictures [sample, height, width, 3], each with its channels in the order `COLOURINGS[colouring[sample]]`."""
    order = np.array(COLOURINGS)[colouring]
    return np.take_along_axis(x, order[:, None, None, :], axis=3)


def varied(x: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """The pictures [sample, height, width, 3] as they might also have been taken.

    Each mirrored or not, shifted and cut, a little brighter or darker and tinted, and now and then with something
    before it.
    """
    return np.clip(np.rint(_covered(_lit(_moved(x, rng), rng), rng)), 0, 255).astype(np.uint8)


def _moved(x: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.float32]:
    count, height, width = x.shape[:3]
    scale = rng.uniform(0.92, 1.12, (2, count, 1))
    shift_y, shift_x = rng.uniform(-0.05, 0.05, (2, count, 1)) * height
    mirrored = np.where(rng.random((count, 1)) < 0.5, -1.0, 1.0)
    row = (np.arange(height) - (height - 1) / 2) / scale[0] + shift_y + (height - 1) / 2
    column = mirrored * (np.arange(width) - (width - 1) / 2) / scale[1] + shift_x + (width - 1) / 2
    # Beyond the edge, as at it.
    row, column = (np.clip(np.rint(a), 0, n - 1).astype(np.int64) for a, n in ((row, height), (column, width)))
    return x[np.arange(count)[:, None, None], row[:, :, None], column[:, None, :]].astype(np.float32)


def _lit(x: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    count = len(x)
    contrast = rng.uniform(0.85, 1.15, (count, 1, 1, 1))
    tint = rng.uniform(0.94, 1.06, (count, 1, 1, 3))
    brightness = rng.uniform(-18, 18, (count, 1, 1, 1))
    middle = x.mean(axis=(1, 2, 3), keepdims=True)
    return (((x - middle) * contrast + middle) * tint + brightness).astype(np.float32)


def _covered(x: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    """A rectangle of one colour over half of the pictures. Source: Zhong et al. 2017, random erasing."""
    count, height, width = x.shape[:3]
    size = rng.uniform(0.15, 0.45, (2, count)) * (rng.random(count) < 0.5)
    centre = rng.random((2, count))
    rows = np.abs(np.arange(height) / height - centre[0][:, None]) < size[0][:, None] / 2
    columns = np.abs(np.arange(width) / width - centre[1][:, None]) < size[1][:, None] / 2
    hidden = (rows[:, :, None] & columns[:, None, :])[..., None]
    return np.where(hidden, rng.uniform(0, 255, (count, 1, 1, 3)).astype(np.float32), x)
