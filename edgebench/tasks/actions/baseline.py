"""The classical model to hold against: a support vector machine on the same samples."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgebench.tasks.metrics import class_metrics
from edgebench.tasks.task import Baseline, Dataset

NAME = "support vector machine on the same samples"
_STRENGTHS = (1.0, 10.0, 100.0)
_BLOCKS = 14


def fit_baseline(dataset: Dataset) -> Baseline:
    """Fit on `dataset.train`, regularised as is best on `dataset.valid`, scored on `dataset.test`."""
    from sklearn.svm import SVC

    train, valid, test = (features(split.x) for split in (dataset.train, dataset.valid, dataset.test))
    classes = int(dataset.train.y.max()) + 1
    best, kept = -np.inf, dict[str, float]()
    for strength in _STRENGTHS:
        model = SVC(C=strength).fit(train, dataset.train.y[:, 0])
        quality = float(model.score(valid, dataset.valid.y[:, 0]))
        if quality > best:
            outputs = np.full((len(test), classes), -np.inf)  # a class that it has not seen comes last
            outputs[:, model.classes_.astype(np.int64)] = _decisions(model.decision_function(test))
            best, kept = quality, class_metrics(outputs, dataset.test.y)
    return Baseline(name=NAME, metrics=kept)


def features(x: NDArray[Any]) -> NDArray[np.float32]:
    """[sample, value] in [0, 1]: all of a skeleton's places, or of every frame the means of 14 × 14 blocks."""
    if x.ndim == 5:
        samples, frames, height, width, channels = x.shape
        rows, columns = height // _BLOCKS, width // _BLOCKS
        cut = x[:, :, : rows * _BLOCKS, : columns * _BLOCKS]
        x = cut.reshape(samples, frames, _BLOCKS, rows, _BLOCKS, columns, channels).mean(axis=(3, 5), dtype=np.float32)
    return x.reshape(len(x), -1).astype(np.float32) / np.float32(255)


def _decisions(found: NDArray[np.float64]) -> NDArray[np.float64]:
    """[sample, class]; of two classes scikit-learn tells the second one's only."""
    return np.stack([-found, found], axis=1) if found.ndim == 1 else found
