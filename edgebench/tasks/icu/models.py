"""The networks: `light` for the edge, `heavy` for the cloud, `published` in the shapes of the literature.

Every one takes raw samples float32 [batch, 48, feature], normalises inside and gives a probability
float32 [batch, 1]. All layers convert to LiteRT with built-in operations at a fixed batch size.
"""

from __future__ import annotations

from typing import Any, Literal

import keras
import numpy as np
from keras import layers, ops
from numpy.typing import NDArray

from edgebench.tasks.icu.published import STEPS
from edgebench.tasks.task import Size

PublishedShape = Literal["bilstm-8-lstm-16", "lstm-128", "lstm-256"]

PHENOTYPES = 25
CONGESTIVE_HEART_FAILURE = 8
"""The place of `Congestive heart failure; nonhypertensive` among the 25 published phenotypes."""

_BOUND = 5.0
"""Normalised inputs are cut here: one mistyped lab value must not decide."""


def build(size: Size, shape: PublishedShape, x: NDArray[np.float32], *, prevalence: float) -> keras.Model:
    """A new model for inputs like `x` [sample, 48, feature], which set its normalisation.

    `shape` chooses the published one; `prevalence` is the share of positives that it starts from.
    """
    inputs = keras.Input((STEPS, x.shape[2]), name="sample")
    steps = _normalised(inputs, x)
    if size == "published":
        return keras.Model(inputs, _published(shape, steps), name="published")
    outputs = _light(steps, prevalence, units=64) if size == "heavy" else _light(steps, prevalence, units=16)
    return keras.Model(inputs, outputs, name=size)


def _normalised(inputs: Any, x: NDArray[np.float32]) -> Any:
    mean = x.mean(axis=(0, 1), dtype=np.float64)
    spread = x.std(axis=(0, 1), dtype=np.float64)
    # A feature that never changes in training says nothing: it stays near zero whatever comes.
    variance = np.where(spread > 1e-6, spread, 1.0) ** 2
    steps = layers.Normalization(mean=mean.tolist(), variance=variance.tolist(), name="normalise")(inputs)
    return ops.clip(steps, -_BOUND, _BOUND)


def _light(steps: Any, prevalence: float, *, units: int) -> Any:
    course = layers.LSTM(units, name="course")(steps)
    summary = ops.concatenate([steps[:, -1, :], ops.mean(steps, axis=1)], axis=-1)
    digest = layers.Dense(16, activation="tanh", name="digest")(layers.Dropout(0.3)(summary))
    merged = layers.Dropout(0.3)(ops.concatenate([course, digest], axis=-1))
    return _probability(merged, prevalence)


def _probability(merged: Any, prevalence: float) -> Any:
    start = keras.initializers.Constant(float(np.log(prevalence / (1 - prevalence))))
    return layers.Dense(1, activation="sigmoid", bias_initializer=start, name="probability")(merged)


def _published(shape: PublishedShape, steps: Any) -> Any:
    if shape == "bilstm-8-lstm-16":
        both_ways = layers.Bidirectional(layers.LSTM(8, return_sequences=True))(steps)
        return layers.Dense(1, activation="sigmoid", name="probability")(layers.LSTM(16)(both_ways))
    if shape == "lstm-128":
        return layers.Dense(1, activation="sigmoid", name="probability")(layers.LSTM(128)(steps))
    every = layers.Dense(PHENOTYPES, activation="sigmoid", name="phenotypes")(layers.LSTM(256)(steps))
    return every[:, CONGESTIVE_HEART_FAILURE : CONGESTIVE_HEART_FAILURE + 1]
