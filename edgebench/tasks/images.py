"""Reading pictures, and writing them."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError
from PIL.PngImagePlugin import PngInfo

from edgebench.errors import DataError

BROKEN = (UnidentifiedImageError, OSError, ValueError, SyntaxError, Image.DecompressionBombError)
"""What Pillow raises for a file that is no picture: of broken files of some kinds it has an error of its own, and of
one that says of itself that it is vast."""
_CAPTION = "Description"


def opened_picture(path: Path) -> Image.Image:
    """A picture file, all of it. Raises DataError for a file that is no picture."""
    try:
        with Image.open(path) as opened:
            opened.load()
            return opened
    except BROKEN as error:
        raise DataError(f"{path}: no picture that can be read ({error}); replace it, or remove it") from error


def read_rgb(
    path: Path, size: tuple[int, int], *, part: tuple[float, float, float, float] = (0, 0, 1, 1)
) -> NDArray[np.uint8]:
    """A picture file as uint8 [height, width, 3], resized to `size` (height, width) where it is not of it.

    part: left, upper, right and lower edge of what is wanted, as shares of the picture's width and height.

    Raises DataError for a file that is no picture.
    """
    picture = opened_picture(path).convert("RGB")
    if picture.size != size[::-1] or part != (0, 0, 1, 1):
        left, upper, right, lower = part
        box = (left * picture.width, upper * picture.height, right * picture.width, lower * picture.height)
        picture = picture.resize(size[::-1], Image.Resampling.BILINEAR, box)
    return np.asarray(picture, np.uint8)


def png(picture: NDArray[np.uint8], caption: str) -> bytes:
    """A picture uint8 [height, width, 3] as PNG, with its caption in it."""
    about = PngInfo()
    about.add_text(_CAPTION, caption)
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, format="PNG", optimize=True, pnginfo=about)
    return buffer.getvalue()


def caption_of(path: Path) -> str:
    """The caption of a file that `png` made; empty where there is none. Raises DataError for a file that is no PNG."""
    try:
        with Image.open(path, formats=("PNG",)) as opened:
            return str(opened.info.get(_CAPTION, ""))
    except BROKEN as error:
        raise DataError(f"{path}: no PNG file that can be read ({error})") from error
