"""Reading pictures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from edgebench.errors import DataError


def read_rgb(path: Path, size: tuple[int, int]) -> NDArray[np.uint8]:
    """A picture file as uint8 [height, width, 3], resized to `size` (height, width) where it is not of it.

    Raises DataError for a file that is no picture.
    """
    try:
        with Image.open(path) as opened:
            picture = opened.convert("RGB")
    except (UnidentifiedImageError, OSError) as error:
        raise DataError(f"{path}: no picture that can be read ({error})") from error
    if picture.size != size[::-1]:
        picture = picture.resize(size[::-1], Image.Resampling.BILINEAR)
    return np.asarray(picture, np.uint8)
