"""Pictures of faces: reading them, and the variety that training adds to them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from edgebench.tasks.images import opened_picture

HEIGHT, WIDTH = 56, 48
"""Half of the 112 × 96 that the literature takes."""


def is_grey(path: Path) -> bool:
    """Whether a picture file has no colours. Raises DataError for a file that is no picture."""
    return opened_picture(path).mode in ("1", "L", "LA", "I", "I;16")


def read_face(path: Path, *, grey: bool, share: float) -> NDArray[np.uint8]:
    """The middle of a picture file as uint8 [56, 48, 1 if grey else 3].

    share: of the largest cut-out of that shape, how much is taken, as a length from 0 to 1.

    Raises DataError for a file that is no picture.
    """
    picture = opened_picture(path).convert("L" if grey else "RGB")
    scale = share * min(picture.width / WIDTH, picture.height / HEIGHT)
    width, height = scale * WIDTH, scale * HEIGHT
    left, top = (picture.width - width) / 2, (picture.height - height) / 2
    resized = picture.resize((WIDTH, HEIGHT), Image.Resampling.BOX, box=(left, top, left + width, top + height))
    return np.asarray(resized, np.uint8).reshape(HEIGHT, WIDTH, -1)


def varied(x: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """The pictures [sample, height, width, channel] as they might also have been taken.

    Each mirrored or not, turned, shifted and scaled a little, lit from another side, brighter or darker, and now and
    then with something before it.
    """
    moved = _moved(x, rng)
    lit = _lit(moved, rng)
    return np.clip(np.rint(_covered(lit, rng)), 0, 255).astype(np.uint8)


def _moved(x: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.float32]:
    count, height, width = x.shape[:3]
    turn = np.deg2rad(rng.uniform(-12, 12, count))[:, None, None]
    scale = rng.uniform(0.88, 1.14, (count, 1, 1))
    mirrored = np.where(rng.random((count, 1, 1)) < 0.5, -1.0, 1.0)
    across = mirrored * rng.uniform(0.94, 1.06, (count, 1, 1))
    shift_y, shift_x = rng.uniform(-0.07, 0.07, (2, count, 1, 1)) * height
    v, u = np.meshgrid(np.arange(height) - (height - 1) / 2, np.arange(width) - (width - 1) / 2, indexing="ij")
    row = (np.sin(turn) * across * u + np.cos(turn) * v) / scale + shift_y + (height - 1) / 2
    column = (np.cos(turn) * across * u - np.sin(turn) * v) / scale + shift_x + (width - 1) / 2
    return _sampled(x, row, column)


def _sampled(x: NDArray[np.uint8], row: NDArray[Any], column: NDArray[Any]) -> NDArray[np.float32]:
    """The pictures at these places [sample, height, width], between pixels; beyond the edge, as at it."""
    height, width = x.shape[1:3]
    row, column = np.clip(row, 0, height - 1), np.clip(column, 0, width - 1)
    top, left = np.minimum(row.astype(np.int64), height - 2), np.minimum(column.astype(np.int64), width - 2)
    down, right = ((row - top)[..., None]).astype(np.float32), ((column - left)[..., None]).astype(np.float32)
    sample = np.arange(len(x))[:, None, None]
    upper = x[sample, top, left] * (1 - right) + x[sample, top, left + 1] * right
    lower = x[sample, top + 1, left] * (1 - right) + x[sample, top + 1, left + 1] * right
    return upper * (1 - down) + lower * down


def _lit(x: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    """Contrast and brightness, and a light that falls in from one side."""
    count, height, width = x.shape[:3]
    contrast = rng.uniform(0.7, 1.3, (count, 1, 1, 1)).astype(np.float32)
    brightness = rng.uniform(-30, 30, (count, 1, 1, 1)).astype(np.float32)
    side = rng.uniform(-30, 30, (2, count, 1, 1, 1)).astype(np.float32)
    slope = side[0] * np.linspace(-1, 1, height, dtype=np.float32)[:, None, None]
    slope = slope + side[1] * np.linspace(-1, 1, width, dtype=np.float32)[None, :, None]
    middle = x.mean(axis=(1, 2, 3), keepdims=True)
    return (x - middle) * contrast + middle + brightness + slope


def _covered(x: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    """A rectangle of one grey over some of the pictures."""
    count, height, width = x.shape[:3]
    size = rng.uniform(0.1, 0.4, (2, count)) * (rng.random(count) < 0.5)
    centre = rng.random((2, count))
    row, column = np.arange(height) / height, np.arange(width) / width
    rows = np.abs(row - centre[0][:, None]) < size[0][:, None] / 2
    columns = np.abs(column - centre[1][:, None]) < size[1][:, None] / 2
    hidden = (rows[:, :, None] & columns[:, None, :])[..., None]
    return np.where(hidden, rng.uniform(0, 255, (count, 1, 1, 1)).astype(np.float32), x)
