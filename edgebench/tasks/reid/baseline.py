"""What to hold against: the mean colours of horizontal stripes, which learn nothing."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edgebench.tasks.reid.labels import reid_metrics
from edgebench.tasks.task import Baseline, Dataset

STRIPES = (4, 8, 16, 32)


def fit_baseline(dataset: Dataset) -> Baseline:
    """The cosine of stripes' colours less their mean on `dataset.train`, in the number of stripes that is best on
    `dataset.valid`, scored on `dataset.test`."""

    def colours(x: NDArray[np.uint8], count: int) -> NDArray[np.float32]:
        return (stripes(x, count) - stripes(dataset.train.x, count).mean(axis=0)).astype(np.float32)

    quality = {count: reid_metrics(colours(dataset.valid.x, count), dataset.valid.y)["map"] for count in STRIPES}
    best = max(quality, key=lambda count: np.nan_to_num(quality[count]))
    found = reid_metrics(colours(dataset.test.x, best), dataset.test.y)
    return Baseline(name=f"cosine of the mean colours of {best} stripes", metrics=found)


def stripes(x: NDArray[np.uint8], count: int) -> NDArray[np.float32]:
    """The mean colours [sample, count * 3] of so many equally high stripes."""
    samples, height, width, channels = x.shape
    striped = x.reshape(samples, count, height // count * width, channels)
    return striped.mean(axis=2, dtype=np.float32).reshape(samples, count * channels)
