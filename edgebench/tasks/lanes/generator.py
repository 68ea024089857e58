"""Generated roads: lanes of a curved road of two to five markings, drawn like those of the real geometry."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edgebench.seeds import rng_for
from edgebench.tasks.lanes.drawing import draw
from edgebench.tasks.lanes.geometry import ABSENT, LANES, ROWS, WIDTH, labels_of
from edgebench.tasks.task import Dataset, Split

FRAMES = {"train": 480, "valid": 80, "test": 120}
FEATURES = ("red", "green", "blue")


def generate(*, seed: int) -> Dataset:
    """Train, valid and test splits of generated frames, each of a road of its own; see `FRAMES` for their sizes."""
    total = sum(FRAMES.values())
    labels = roads(total, rng_for(seed, "lane-generator"))
    x = draw(labels, seed=seed, purpose="generator")
    splits, start = {}, 0
    for name, size in FRAMES.items():
        rows = slice(start, start + size)
        splits[name] = Split(x=x[rows], y=labels[rows], group=np.arange(rows.start, rows.stop, dtype=np.int64))
        start += size
    return Dataset.of(splits, source="generated", real=False, features=FEATURES)


def roads(count: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """Labels [count, LANES * row] of as many roads.

    Seen from a car on a flat road, lane k runs through the vanishing point with slope k · pace; a curve moves it by its
    curvature over the depth below the horizon.
    """

    def between(low: float, high: float) -> NDArray[np.float64]:
        return rng.uniform(low, high, (count, 1, 1))

    horizon, vanishing, pace = between(200, 260), WIDTH / 2 + between(-90, 90), between(1.6, 2.3)
    lanes = rng.integers(2, LANES + 1, (count, 1, 1))
    # The car drives between two of the markings, somewhat out of the middle, and now and then on one.
    own = np.floor(rng.random((count, 1, 1)) * (lanes - 1)) + 0.5 + rng.normal(0, 0.15, (count, 1, 1))
    number = np.arange(LANES)[None, :, None]
    depth = np.maximum(ROWS[None, None, :] - horizon, 1.0)
    curve = rng.normal(0, 1, (count, 1, 1)) * 900 * (rng.random((count, 1, 1)) < 0.7)
    x = vanishing + (number - own) * pace * depth + curve / depth
    seen = (depth > between(12, 40) + rng.uniform(0, 20, (count, LANES, 1))) & (x >= 0) & (x <= WIDTH - 1)
    return labels_of(np.where(seen & (number < lanes), np.round(x), ABSENT).astype(np.float32))
