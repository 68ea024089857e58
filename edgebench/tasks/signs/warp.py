"""Pictures as seen from elsewhere: many perspectives at once."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
_CHUNK = 512


def perspectives(*, turn: Floats, zoom: Floats, shift: Floats, stretch: Floats, shear: Floats, tilt: Floats) -> Floats:
    """Matrices float32 [sample, 3, 3] for `warped`, of what changes in the eyes of who looks, each for every sample.

    turn: radians, clockwise. zoom: 1 keeps the size, 2 shows it twice as large. shift [sample, 2]: 1 is half a picture.
    stretch: 1.1 widens by a tenth and flattens by as much. shear: of the vertical. tilt [sample, 2]: by how much
    the right and the lower edge are nearer than the middle, and so larger.
    """
    cosine, sine, zero, one = np.cos(turn), np.sin(turn), np.zeros_like(turn), np.ones_like(turn)
    turned = np.stack([cosine, sine, zero, -sine, cosine, zero, zero, zero, one], axis=-1)
    sized = np.stack([1 / (zoom * stretch), -shear / zoom, zero, zero, stretch / zoom, zero, zero, zero, one], axis=-1)
    seen = np.stack([one, zero, -shift[:, 0], zero, one, -shift[:, 1], tilt[:, 0], tilt[:, 1], one], axis=-1)
    matrices: Floats = turned.reshape(-1, 3, 3) @ sized.reshape(-1, 3, 3) @ seen.reshape(-1, 3, 3)
    return matrices.astype(np.float32)


def warped(pictures: NDArray[np.uint8], of: NDArray[np.int64], matrices: Floats, side: int) -> Floats:
    """Pictures float32 [sample, side, side, 4], between 0 and 255, each of one of `pictures` uint8 [picture, h, w, 4].

    of: int64 [sample], which. matrices: float32 [sample, 3, 3], from a place (x, y, 1) in the result to one in the
    picture; x and y run from −1 to 1. Beyond its edges a picture goes on as it is there.
    """
    _, height, width, _ = pictures.shape
    # A pixel's four channels are one number while it is looked up.
    pixels = np.ascontiguousarray(pictures).view(np.uint32).reshape(-1)
    axis = (np.arange(side, dtype=np.float32) + 0.5) * (2 / side) - 1
    places = np.stack([*(each.reshape(-1) for each in np.meshgrid(axis, axis)), np.ones(side * side, np.float32)])
    result = np.empty((len(of), side * side, 4), np.float32)
    for start in range(0, len(of), _CHUNK):
        rows = slice(start, start + _CHUNK)
        x, y, depth = np.moveaxis(matrices[rows] @ places, 1, 0)
        column, right = _between((x / depth + 1) * (width / 2) - 0.5, width)
        row, down = _between((y / depth + 1) * (height / 2) - 0.5, height)
        corner = (of[rows, None] * height + row) * width + column
        upper, lower = (
            _channels(pixels[at]) * (1 - right) + _channels(pixels[at + 1]) * right for at in (corner, corner + width)
        )
        result[rows] = upper * (1 - down) + lower * down
    return result.reshape(len(of), side, side, 4)


def _between(place: Floats, size: int) -> tuple[NDArray[np.int64], Floats]:
    """The pixel before a place, of which there is a next one, and how far to that one it is, [sample, pixel, 1]."""
    inside = np.clip(place, 0, size - 1)
    before = np.minimum(inside, size - 2).astype(np.int64)
    return before, (inside - before).astype(np.float32)[..., None]


def _channels(pixels: NDArray[np.uint32]) -> NDArray[np.uint8]:
    return pixels.view(np.uint8).reshape(*pixels.shape, 4)
