"""The networks: `light` for the edge, `heavy` for the cloud, `published` as the literature has it.

Every one takes pictures uint8 [batch, 32, 32, 3], normalises inside and gives probabilities float32 [batch, 43].
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import keras
from keras import layers

from edgebench.tasks.signs.capsules import lengths, primary_capsules, routed_capsules
from edgebench.tasks.signs.gtsrb import CLASSES, SIDE
from edgebench.tasks.task import Size

_SHARPNESS = 10.0
"""Lengths of 0.9 for the right class and 0.1 for the others become a probability of 0.986."""


@dataclass(frozen=True)
class Network:
    """`model` is what is kept; `trainee` shares its layers, and gives what the loss is of."""

    model: keras.Model
    trainee: keras.Model


def build(size: Size) -> Network:
    """A new network."""
    image = keras.Input((SIDE, SIDE, 3), dtype="uint8", name="image")
    scaled = layers.Rescaling(1 / 127.5, offset=-1.0, name="scale")(image)
    if size == "light":
        hidden = scaled
        for filters in (24, 48, 64):
            hidden = layers.MaxPooling2D()(_convolved(hidden, filters, 3))
        hidden = layers.Dense(96, activation="relu", name="dense")(layers.Flatten()(hidden))
        probability = layers.Dense(CLASSES, activation="softmax", name="probability")(hidden)
        model = keras.Model(image, probability, name=size)
        return Network(model, model)
    if size == "heavy":
        hidden = layers.MaxPooling2D()(_convolved(scaled, 32, 3))
        hidden = layers.MaxPooling2D()(_convolved(hidden, 64, 3))
        hidden = _convolved(hidden, 96, 3)
        primary = layers.Conv2D(64, 3, strides=2, padding="same", name="primary")(hidden)
        capsules = routed_capsules(primary_capsules(primary, 8), CLASSES, 8)
    else:
        hidden = layers.Conv2D(256, 9, activation="relu", name="convolution")(scaled)
        primary = layers.Conv2D(256, 9, strides=2, name="primary")(hidden)
        capsules = routed_capsules(primary_capsules(primary, 8), CLASSES, 16)
    length = lengths(capsules)
    probability = layers.Softmax(name="probability")(_SHARPNESS * length)
    return Network(keras.Model(image, probability, name=size), keras.Model(image, length))


def _convolved(inputs: Any, filters: int, window: int) -> Any:
    hidden = layers.Conv2D(filters, window, padding="same", use_bias=False)(inputs)
    return layers.ReLU()(layers.BatchNormalization()(hidden))
