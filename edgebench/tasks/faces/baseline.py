"""What to hold against: pixels compared as they are, which learns nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgebench.tasks.faces.labels import face_metrics
from edgebench.tasks.task import Baseline, Dataset


def fit_baseline(dataset: Dataset) -> Baseline:
    """The cosine of pixels, prepared in whichever way is best on `dataset.valid`, scored on `dataset.test`."""
    ways: dict[str, Callable[[NDArray[np.uint8]], NDArray[np.float32]]] = {
        "as they are": _flat,
        "less their mean": lambda x: _centred(_flat(x)),
        "with equalised histograms": lambda x: _flat(equalised(x)),
        "with equalised histograms, less their mean": lambda x: _centred(_flat(equalised(x))),
    }
    quality = {name: face_metrics(way(dataset.valid.x), dataset.valid.y)["auc"] for name, way in ways.items()}
    best = max(quality, key=lambda name: np.nan_to_num(quality[name]))
    found = face_metrics(ways[best](dataset.test.x), dataset.test.y)
    return Baseline(name=f"cosine of pixels {best}", metrics=found)


def equalised(x: NDArray[np.uint8]) -> NDArray[np.float32]:
    """For each pixel the share of those of its picture and channel that are not brighter; of the same shape."""
    count, height, width, channels = x.shape
    plane = np.arange(count * channels).reshape(count, 1, 1, channels) * 256 + x
    histogram = np.bincount(plane.reshape(-1), minlength=count * channels * 256).reshape(-1, 256)
    share = np.cumsum(histogram, axis=1) / (height * width)
    return share.reshape(-1)[plane].astype(np.float32)


def _flat(x: NDArray[Any]) -> NDArray[np.float32]:
    return x.reshape(len(x), -1).astype(np.float32)


def _centred(x: NDArray[np.float32]) -> NDArray[np.float32]:
    return x - x.mean(axis=1, keepdims=True)
