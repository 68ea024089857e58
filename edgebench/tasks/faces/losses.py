"""What training makes small: an angular margin between people, or triplets of pictures."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import layers, ops

Loss = Callable[[Any, Any], Any]


class Directions(layers.Layer):
    """The cosines [batch, person] of embeddings with a learned direction for each person. For training only."""

    def __init__(self, people: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.people = people

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """One direction a person."""
        self.directions = self.add_weight(shape=(input_shape[-1], self.people), initializer="glorot_normal")

    def call(self, embeddings: Any) -> Any:
        """Cosines of embeddings of length 1."""
        length = ops.sqrt(ops.sum(ops.square(self.directions), axis=0, keepdims=True) + 1e-12)
        return ops.matmul(embeddings, self.directions / length)


def angular_margin(margin: float, scale: float) -> Loss:
    """The loss of SphereFace: cross entropy of `scale` times cosines [batch, person], with the angle to the own
    direction made `margin` times as large.

    The stable form: lengths are fixed, the angle is cut at π, so that no annealing is needed, and the gradient is that
    of the plain cosine. Sources: Liu et al. 2017 (A-Softmax); Liu et al. 2022, SphereFace Revived, eq. 10 to 13.
    """

    def loss(person: Any, cosines: Any) -> Any:
        number = ops.cast(ops.reshape(person, (-1,)), "int32")
        own = ops.one_hot(number, cosines.shape[-1], dtype=cosines.dtype)
        angle = ops.arccos(ops.clip(cosines, -1 + 1e-6, 1 - 1e-6))
        moved = ops.cos(ops.minimum(margin * angle, np.pi)) - cosines
        logits = scale * (cosines + ops.stop_gradient(own * moved))
        return keras.losses.sparse_categorical_crossentropy(number, logits, from_logits=True)

    return loss


def semi_hard_triplets(margin: float) -> Loss:
    """The triplet loss of FaceNet over embeddings [batch, dimension] of length 1.

    For each two pictures of one person the negative is semi-hard: the nearest picture of another person that is farther
    away than they are from each other, or, where all are nearer, the farthest. Distances are squared.
    Source: Schroff et al. 2015, section 3.2.
    """

    def loss(person: Any, embeddings: Any) -> Any:
        number = ops.reshape(person, (-1, 1))
        same = ops.cast(ops.equal(number, ops.transpose(number)), embeddings.dtype)
        distance = 2 - 2 * ops.matmul(embeddings, ops.transpose(embeddings))
        # [anchor, positive, negative]; no distance is above 4.
        apart = ops.expand_dims(distance, 1)
        other = ops.expand_dims(1 - same, 1)
        farther = other * ops.cast(apart > ops.expand_dims(distance, 2), embeddings.dtype)
        nearest = ops.min(apart + 8 * (1 - farther), axis=2)
        farthest = ops.max(apart - 8 * (1 - other), axis=2)
        negative = ops.where(nearest < 8, nearest, farthest)
        positives = same - ops.eye(ops.shape(same)[0], dtype=embeddings.dtype)
        costs = positives * ops.relu(distance - negative + margin)
        # Keras takes the mean over the anchors.
        return ops.sum(costs, axis=1) / ops.maximum(ops.mean(ops.sum(positives, axis=1)), 1e-6)

    return loss
