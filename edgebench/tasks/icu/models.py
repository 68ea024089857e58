"""The networks: `light` for the edge, `heavy` for the cloud, `published` in the shapes of the literature.

Every one takes raw samples float32 [batch, 48, feature], normalises inside and gives a probability
float32 [batch, 1]. All layers convert to LiteRT with built-in operations at a fixed batch size.

Light and heavy blend, in log-odds, a linear part and members. The linear part sees summaries of the 48 hours and
is fitted convexly; the members, recurrent and not, are trained by gradient, each on its own loss. Their errors
differ, so the blend is better than either, but the members need many patients: their share grows with the number of
positive ones.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import keras
import numpy as np
from keras import layers, ops
from numpy.typing import NDArray

from edgebench.tasks.icu.linear import fit_linear
from edgebench.tasks.icu.published import STEPS
from edgebench.tasks.models import outputs_of
from edgebench.tasks.task import Size, Split

PublishedShape = Literal["bilstm-8-lstm-16", "lstm-128", "lstm-256"]

PHENOTYPES = 25
CONGESTIVE_HEART_FAILURE = 8
"""The place of `Congestive heart failure; nonhypertensive` among the 25 published phenotypes."""

_BOUND = 5.0
"""Normalised inputs are cut here: one mistyped laboratory value must not decide."""
_EVEN_AT = 1_000
"""Positive patients at which members and linear part weigh the same."""


@dataclass(frozen=True)
class Network:
    """`model` is what is kept; `trainee` shares its layers and gives each member's own probability [batch, member]."""

    model: keras.Model
    trainee: keras.Model


def build(size: Size, shape: PublishedShape, train: Split) -> Network:
    """A new network for samples like those of `train`, which set its normalisation and its linear part.

    `shape` chooses the published one, whose unused phenotypes stay untrained.
    """
    inputs = keras.Input((STEPS, train.x.shape[2]), name="sample")
    steps = _normalised(inputs, train.x)
    if size == "published":
        model = keras.Model(inputs, _published(shape, steps), name="published")
        return Network(model, model)
    summary = _summarised(inputs, steps, train.x)
    linear = _linear(inputs, summary, train)
    start = keras.initializers.Constant(float(linear.get_weights()[1][0]))
    if size == "light":
        course = layers.LSTM(16, name="course")(steps)
        digest = layers.Dense(16, activation="tanh", name="digest")(layers.Dropout(0.5)(summary))
        members = [_log_odds("member", ops.concatenate([course, digest], axis=-1), start)]
    else:
        digest = layers.Dense(64, activation="tanh", name="digest")(layers.Dropout(0.5)(summary))
        members = [
            _log_odds("course", layers.LSTM(32, name="lstm")(steps), start),
            _log_odds("trend", layers.GRU(32, name="gru")(steps), start),
            _log_odds("overview", digest, start),
        ]
    joined = ops.concatenate(members, axis=-1) if len(members) > 1 else members[0]
    share = members_share(train)
    blend = (1 - share) * linear(summary) + share * ops.mean(joined, axis=1, keepdims=True)
    model = keras.Model(inputs, layers.Activation("sigmoid", name="probability")(blend), name=size)
    return Network(model, keras.Model(inputs, layers.Activation("sigmoid")(joined)))


def members_share(train: Split) -> float:
    """The members' part of the blend, from 0 to 1."""
    positive = len(np.unique(train.group[train.y[:, 0] > 0]))
    return positive / (positive + _EVEN_AT)


def _normalised(inputs: Any, x: NDArray[np.float32]) -> Any:
    mean = x.mean(axis=(0, 1), dtype=np.float64)
    spread = x.std(axis=(0, 1), dtype=np.float64)
    return ops.clip(_standardised("normalise", inputs, mean, spread), -_BOUND, _BOUND)


def _standardised(name: str, values: Any, mean: NDArray[np.float64], spread: NDArray[np.float64]) -> Any:
    # What never changes in training says nothing: it stays near zero whatever comes.
    variance = np.where(spread > 1e-3, spread, 1.0) ** 2
    return layers.Normalization(mean=mean.tolist(), variance=variance.tolist(), name=name)(values)


def _summarised(inputs: Any, steps: Any, x: NDArray[np.float32]) -> Any:
    """Last, mean, least, greatest value and spread of each feature, standardised: [batch, 5 * feature]."""
    mean = ops.mean(steps, axis=1)
    deviation = steps - ops.mean(steps, axis=1, keepdims=True)
    spread = ops.sqrt(ops.mean(ops.square(deviation), axis=1) + 1e-6)
    parts = [steps[:, -1, :], mean, ops.min(steps, axis=1), ops.max(steps, axis=1), spread]
    summary = ops.concatenate(parts, axis=-1)
    found = outputs_of(keras.Model(inputs, summary), x).astype(np.float64)
    return ops.clip(_standardised("standardise", summary, found.mean(axis=0), found.std(axis=0)), -_BOUND, _BOUND)


def _linear(inputs: Any, summary: Any, train: Split) -> Any:
    # All the samples of a patient together count as one: they are hours of one illness.
    counted = len(np.unique(train.group)) / len(train)
    weight, bias = fit_linear(outputs_of(keras.Model(inputs, summary), train.x), train.y[:, 0], weight=counted)
    layer = layers.Dense(1, name="linear")
    layer.build((None, len(weight)))
    layer.set_weights([weight[:, None].astype(np.float32), np.array([bias], np.float32)])
    return layer


def _log_odds(name: str, features: Any, start: Any) -> Any:
    return layers.Dense(1, bias_initializer=start, name=name)(layers.Dropout(0.3)(features))


def _published(shape: PublishedShape, steps: Any) -> Any:
    if shape == "bilstm-8-lstm-16":
        both_ways = layers.Bidirectional(layers.LSTM(8, return_sequences=True))(steps)
        return layers.Dense(1, activation="sigmoid", name="probability")(layers.LSTM(16)(both_ways))
    if shape == "lstm-128":
        return layers.Dense(1, activation="sigmoid", name="probability")(layers.LSTM(128)(steps))
    every = layers.Dense(PHENOTYPES, activation="sigmoid", name="phenotypes")(layers.LSTM(256)(steps))
    return every[:, CONGESTIVE_HEART_FAILURE : CONGESTIVE_HEART_FAILURE + 1]
