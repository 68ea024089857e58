"""43 traffic signs, drawn: the shapes and colours of the real ones, and simple patterns for what is on them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

SIDE = 64
_FINER = 3
"""Drawn so much larger, each way, and then made smaller, which smooths the edges."""
_RIM = 0.78
"""Where the rim of a sign ends, from its edge at 1 to its middle at 0."""

Colour = tuple[int, int, int]
_RED, _WHITE, _BLACK, _BLUE = (200, 25, 35), (240, 240, 240), (20, 20, 20), (20, 70, 170)
_YELLOW, _GREY = (245, 190, 30), (120, 120, 120)


class Sign(NamedTuple):
    """shape: see `_distance`. pattern: rows from top to bottom, `#` where it is drawn."""

    shape: str
    rim: Colour
    face: Colour
    ink: Colour
    pattern: tuple[str, ...] = ()


def drawn_signs() -> NDArray[np.uint8]:
    """uint8 [43, 64, 64, 4]: red, green, blue and opacity, a sign nearly as wide as its picture."""
    return np.stack([_drawn(sign) for sign in SIGNS])


def _drawn(sign: Sign) -> NDArray[np.uint8]:
    fine = SIDE * _FINER
    axis = ((np.arange(fine) + 0.5) * (2 / fine) - 1) / 0.9
    x, y = np.meshgrid(axis, axis)
    distance = _distance(sign.shape, x, y)
    colours = np.where((distance > _RIM)[..., None], sign.rim, sign.face)
    colours = np.where(_inked(sign, x, y)[..., None], sign.ink, colours)
    opacity = np.where(distance <= 1, 255, 0)[..., None]
    # Beyond the edge the rim's colour goes on, unseen, so that no other one mixes with it.
    picture = np.concatenate([colours, opacity], axis=-1)
    smaller = picture.reshape(SIDE, _FINER, SIDE, _FINER, 4).mean(axis=(1, 3))
    return np.round(smaller).astype(np.uint8)


def _distance(shape: str, x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
    """From the middle, 0, to the edge, 1, and beyond; y grows downwards."""
    if shape == "disc":
        return np.hypot(x, y)
    if shape == "diamond":
        return np.abs(x) + np.abs(y)
    if shape == "octagon":
        return np.maximum(np.maximum(np.abs(x), np.abs(y)), (np.abs(x) + np.abs(y)) / np.sqrt(2))
    below = y if shape == "triangle" else -y
    # Three half-planes whose edges meet in the corners of a triangle of side √3, its middle a little low.
    low = below - 0.25
    return np.maximum(low / 0.5, (np.sqrt(3) * np.abs(x) - low) / 1.0)


def _inked(sign: Sign, x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.bool_]:
    if not sign.pattern:
        return np.zeros(x.shape, dtype=bool)
    pattern = np.array([[mark == "#" for mark in row] for row in sign.pattern])
    rows, columns = pattern.shape
    # On a triangle there is less room, and it is low.
    room, middle = {"triangle": (0.34, 0.22), "diamond": (0.42, 0.0)}.get(sign.shape, (0.55, 0.0))
    scale = room / (max(rows, columns) / 2)
    row = np.floor((y - middle) / scale + rows / 2).astype(int)
    column = np.floor(x / scale + columns / 2).astype(int)
    inside = (row >= 0) & (row < rows) & (column >= 0) & (column < columns)
    return inside & pattern[np.clip(row, 0, rows - 1), np.clip(column, 0, columns - 1)]


_DIGITS = {
    "0": ("###", "#.#", "#.#", "#.#", "###"),
    "1": (".#.", "##.", ".#.", ".#.", "###"),
    "2": ("###", "..#", "###", "#..", "###"),
    "3": ("###", "..#", ".##", "..#", "###"),
    "5": ("###", "#..", "###", "..#", "###"),
    "6": ("###", "#..", "###", "#.#", "###"),
    "7": ("###", "..#", ".#.", ".#.", ".#."),
    "8": ("###", "#.#", "###", "#.#", "###"),
}


def _number(text: str) -> tuple[str, ...]:
    return tuple(".".join(rows) for rows in zip(*(_DIGITS[digit] for digit in text), strict=True))


def _limit(text: str) -> Sign:
    return Sign("disc", _RED, _WHITE, _BLACK, _number(text))


def _warning(*pattern: str) -> Sign:
    return Sign("triangle", _RED, _WHITE, _BLACK, pattern)


def _order(*pattern: str) -> Sign:
    return Sign("disc", _BLUE, _BLUE, _WHITE, pattern)


def _ban(*pattern: str) -> Sign:
    return Sign("disc", _RED, _WHITE, _BLACK, pattern)


def _end(*pattern: str) -> Sign:
    return Sign("disc", _WHITE, _WHITE, _GREY, pattern)


SIGNS = (
    _limit("20"),
    _limit("30"),
    _limit("50"),
    _limit("60"),
    _limit("70"),
    _limit("80"),
    _end(*_number("80")),
    _limit("100"),
    _limit("120"),
    _ban(".....", "##.##", "##.##", "#...#", "....."),
    _ban("......", "###...", "######", "######", ".#..#."),
    _warning("..#..", ".###.", "#####", "..#..", "..#.."),
    Sign("diamond", _WHITE, _YELLOW, _YELLOW),
    Sign("reversed", _RED, _WHITE, _WHITE),
    Sign("octagon", _RED, _RED, _WHITE, (".......", "#.#.#.#", "##.#.##", "#.#.#.#", ".......")),
    Sign("disc", _RED, _WHITE, _WHITE),
    _ban("####..", "######", "######", "######", "#....#"),
    Sign("disc", _RED, _RED, _WHITE, (".......", ".......", "#######", "#######", ".......", ".......")),
    _warning(".#.", ".#.", ".#.", "...", ".#."),
    _warning("##..", ".##.", "..#.", "..#.", "..#."),
    _warning("..##", ".##.", ".#..", ".#..", ".#.."),
    _warning("##...", ".##..", "..##.", ".##..", "##..."),
    _warning(".....", ".#.#.", "#####", "#####", "....."),
    _warning("#.#..", ".#.#.", "####.", "#.##.", ".#.#."),
    _warning("#...#", "#..##", "#..#.", "#..##", "#...#"),
    _warning("..#..", ".#.#.", "..##.", ".#..#", "#..##"),
    _warning("###", "###", ".#.", "###", "###"),
    _warning("..#..", ".###.", "..#..", ".#.#.", "#...#"),
    _warning(".#.#.", "#####", ".#.#.", ".#.#.", "#.#.#"),
    _warning(".....", ".###.", "#.#.#", "#.#.#", ".#.#."),
    _warning("#.#.#", ".###.", "#####", ".###.", "#.#.#"),
    _warning("#...", "####", ".###", ".#.#", "#..#"),
    _end("....#", "...#.", "..#..", ".#...", "#...."),
    _order("..#..", "...#.", "#####", "#..#.", "#.#.."),
    _order("..#..", ".#...", "#####", ".#..#", "..#.#"),
    _order("..#..", ".###.", "#.#.#", "..#..", "..#.."),
    _order("#..#.", "#...#", "#####", "#...#", "#..#."),
    _order(".#..#", "#...#", "#####", "#...#", ".#..#"),
    _order("#....", ".#..#", "..#.#", "...##", ".####"),
    _order("....#", "#..#.", "#.#..", "##...", "####."),
    _order(".###.", "#...#", "#..##", "##..#", ".###."),
    _end("....#", "##.##", "###.#", "#.#.#", "#...."),
    _end("###..#", "####.#", "######", ".##.#.", "#....."),
)
"""By class number."""
