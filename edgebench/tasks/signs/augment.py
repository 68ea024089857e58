"""Signs as they might have been seen: from another side, in another light."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edgebench.tasks.signs.warp import perspectives, warped


def augmented(x: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Other views of x, uint8 [sample, side, side, 3]; never mirrored, which makes other signs of many."""
    count, side = len(x), x.shape[1]

    def spread(width: float, *more: int) -> NDArray[np.float32]:
        return rng.uniform(-width, width, (count, *more)).astype(np.float32)

    matrices = perspectives(
        turn=spread(0.2),
        zoom=np.exp(spread(0.18)),
        shift=spread(0.15, 2),
        stretch=np.exp(spread(0.08)),
        shear=spread(0.12),
        tilt=spread(0.12, 2),
    )
    opaque = np.concatenate([x, np.full((*x.shape[:3], 1), 255, np.uint8)], axis=-1)
    seen = warped(opaque, np.arange(count), matrices, side)[..., :3]
    # Light: a factor for all, a little of it for each colour, and a veil.
    gain = np.exp(spread(0.5, 1, 1, 1) + spread(0.08, 1, 1, 3))
    return np.clip(seen * gain + spread(12.0, 1, 1, 1), 0, 255).astype(np.uint8)
