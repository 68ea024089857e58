"""The classical model to hold against: a linear support vector machine on histograms of oriented gradients."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgebench.seeds import seed_for
from edgebench.tasks.metrics import class_metrics
from edgebench.tasks.task import Baseline, Dataset

NAME = "linear SVM on histograms of oriented gradients"
_CELL = 4
"""Pixels, each way."""
_DIRECTIONS = 9
_HIGHEST = 0.2
"""No entry of a block counts more, as Dalal and Triggs have it."""
_CHUNK = 1_000
_STRENGTHS = (0.01, 0.1)


def fit_baseline(dataset: Dataset) -> Baseline:
    """Fit on `dataset.train`, regularised as is best on `dataset.valid`, scored on `dataset.test`."""
    from sklearn.svm import LinearSVC

    train, valid, test = (gradients(s.x) for s in (dataset.train, dataset.valid, dataset.test))
    best, metrics = -np.inf, {}
    for strength in _STRENGTHS:
        model = LinearSVC(C=strength, random_state=seed_for(0, "baseline") % 2**32)
        model.fit(train, dataset.train.y[:, 0].astype(int))
        quality = class_metrics(_scores(model, valid), dataset.valid.y)["top1"]
        if quality > best:
            best, metrics = quality, class_metrics(_scores(model, test), dataset.test.y)
    return Baseline(name=NAME, metrics=metrics)


def gradients(x: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Pictures [sample, side, side, 3] as histograms [sample, feature]: of each block of 2 × 2 cells those of its
    cells, of each cell how much brightness changes in each of 9 directions.

    Of a pixel the colour that changes most counts. Source: Dalal and Triggs 2005.
    """
    return np.concatenate([_gradients(x[start : start + _CHUNK]) for start in range(0, len(x), _CHUNK)])


def _gradients(x: NDArray[np.uint8]) -> NDArray[np.float32]:
    light = np.sqrt(x.astype(np.float32))
    down, right = (np.gradient(light, axis=axis) for axis in (1, 2))
    strength = np.hypot(down, right)
    strongest = strength.argmax(axis=-1)[..., None]
    down, right, strength = (np.take_along_axis(each, strongest, axis=-1)[..., 0] for each in (down, right, strength))
    place = np.arctan2(down, right) % np.pi * (_DIRECTIONS / np.pi)
    before = np.floor(place)
    count, side, _ = strength.shape
    cells = side // _CELL
    found = np.empty((count, cells, cells, _DIRECTIONS), np.float32)
    for direction in range(_DIRECTIONS):
        # A gradient between two directions counts for both, as near as it is to each.
        nearness = (before % _DIRECTIONS == direction) * (1 - place + before)
        nearness += ((before + 1) % _DIRECTIONS == direction) * (place - before)
        found[..., direction] = (strength * nearness).reshape(count, cells, _CELL, cells, _CELL).sum(axis=(2, 4))
    blocks = np.concatenate([found[:, i : cells - 1 + i, j : cells - 1 + j] for i in (0, 1) for j in (0, 1)], axis=-1)
    limited = np.minimum(_normalised(blocks), _HIGHEST)
    features: NDArray[np.float32] = _normalised(limited).reshape(count, -1)
    return features


def _normalised(blocks: NDArray[np.float32]) -> NDArray[np.float32]:
    normalised: NDArray[np.float32] = blocks / np.sqrt((blocks**2).sum(axis=-1, keepdims=True) + 1e-3)
    return normalised


def _scores(model: Any, features: NDArray[np.float32]) -> NDArray[np.float32]:
    # Classes without a sample have no score: they are the unlikeliest.
    found = np.full((len(features), 43), -np.inf, np.float32)
    found[:, model.classes_] = model.decision_function(features)
    return found
