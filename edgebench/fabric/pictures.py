"""Pictures as JPEG: what a camera sends, so that frames take a fraction of the network that raw ones would.

A sample of the shape [height, width, 1 or 3], or [height, width], of uint8 is a picture. Frames of a clip,
[frame, height, width, 1 or 3], travel as one picture, one below the other.
"""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgebench.inference.spec import TensorSpec

JPEG = "jpeg"
"""What stands for the dtype of a sample whose payload is a JPEG file."""
_START_OF_SCAN = b"\xff\xda"
_MAX_SIDE = 65_500
"""No JPEG has a longer side."""


def picture_size(spec: TensorSpec) -> tuple[int, int, int] | None:
    """Height, width and channels (1 or 3) of the picture that samples travel as; None where they are no pictures."""
    shape = spec.shape if spec.shape and spec.shape[-1] in (1, 3) and len(spec.shape) > 2 else (*spec.shape, 1)
    if spec.dtype != "uint8" or len(shape) not in (3, 4):
        return None
    *above, width, channels = shape
    height = int(np.prod(above))
    return (height, width, channels) if max(height, width) <= _MAX_SIDE else None


def compressed(x: NDArray[Any], quality: int) -> bytes:
    """A sample that is a picture as a JPEG file; quality: 1 to 95, as libjpeg has it."""
    from PIL import Image

    size = picture_size(TensorSpec("uint8", x.shape))
    assert size is not None
    height, width, channels = size
    flat = x.reshape((height, width) if channels == 1 else (height, width, 3))
    file = io.BytesIO()
    Image.fromarray(flat).save(file, "JPEG", quality=quality)
    return file.getvalue()


def decompressed(payload: memoryview, spec: TensorSpec) -> NDArray[np.uint8] | None:
    """The sample in a JPEG file; None where it holds another picture, or none at all.

    The size that the file states is compared first, and it may have a scan a channel at most: a progressive file of
    thousands of empty scans would keep this node busy for a minute.
    """
    from PIL import Image

    size = picture_size(spec)
    if size is None:
        return None
    height, width, channels = size
    # Within a scan 0xff is followed by 0x00 or a restart, so this is the marker and nothing else.
    if bytes(payload).count(_START_OF_SCAN) > channels:
        return None
    try:
        with Image.open(io.BytesIO(payload), formats=("JPEG",)) as picture:
            if picture.size != (width, height) or picture.mode != ("L" if channels == 1 else "RGB"):
                return None
            return np.asarray(picture, np.uint8).reshape(spec.shape)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None
