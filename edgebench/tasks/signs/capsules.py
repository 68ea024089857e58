"""Capsules: groups of neurons whose vector's length says how likely a thing is there, and its direction how it looks.

Source: Sabour, Frosst and Hinton 2017, "Dynamic routing between capsules".
"""

from __future__ import annotations

from typing import Any

import keras
from keras import layers, ops

_TINY = 1e-7


def squash(vectors: Any) -> Any:
    """The same directions, with lengths from 0 up to 1: v = |s|² / (1 + |s|²) · s / |s| (eq. 1)."""
    square = ops.sum(ops.square(vectors), axis=-1, keepdims=True)
    return vectors * (ops.sqrt(square + _TINY) / (1.0 + square))


def lengths(vectors: Any) -> Any:
    """The length of each capsule's vector: [..., capsule, size] -> [..., capsule]."""
    return ops.sqrt(ops.sum(ops.square(vectors), axis=-1) + _TINY)


def margin_loss(labels: Any, given: Any) -> Any:
    """Loss [batch] of lengths [batch, class] for class numbers [batch, 1]; longer than 0.9 or shorter than 0.1 is
    right (eq. 4)."""
    present = ops.one_hot(ops.cast(ops.reshape(labels, (-1,)), "int32"), given.shape[-1])
    short, long = ops.square(ops.relu(0.9 - given)), ops.square(ops.relu(given - 0.1))
    return ops.sum(present * short + 0.5 * (1 - present) * long, axis=-1)


@keras.saving.register_keras_serializable(package="edgebench")
class Squash(layers.Layer):
    """Primary capsules of a feature map: [batch, row, column, capsule · size] -> [batch, capsules, size]."""

    def __init__(self, size: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.size = size

    def call(self, inputs: Any) -> Any:
        """See the class."""
        _, rows, columns, channels = inputs.shape
        return squash(ops.reshape(inputs, (-1, rows * columns * channels // self.size, self.size)))

    def get_config(self) -> dict[str, Any]:
        """For saving."""
        return {**super().get_config(), "size": self.size}


@keras.saving.register_keras_serializable(package="edgebench")
class RoutedCapsules(layers.Layer):
    """Capsules that those below agree on: [batch, below, size below] -> [batch, count, size].

    Each capsule below predicts each one here; its share goes to those whose vector its predictions point along,
    found in `iterations` rounds (procedure 1). Derivatives go through the last round alone: the shares before it count
    as given.
    """

    def __init__(self, count: int, size: int, iterations: int = 3, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.count = count
        self.size = size
        self.iterations = iterations

    def build(self, input_shape: tuple[int | None, int, int]) -> None:
        """One matrix for each pair of a capsule below and one here."""
        _, below, size = input_shape
        self.kernel = self.add_weight(
            shape=(below, size, self.count * self.size),
            initializer=keras.initializers.RandomNormal(stddev=0.1),
            name="kernel",
        )

    def call(self, inputs: Any) -> Any:
        """See the class."""
        below = inputs.shape[1]
        predicted = ops.matmul(ops.transpose(inputs, (1, 0, 2)), self.kernel)
        predicted = ops.reshape(predicted, (below, -1, self.count, self.size))
        given = ops.stop_gradient(predicted)
        agreement = ops.zeros_like(given[..., :1])
        for round_ in range(self.iterations):
            share = ops.softmax(agreement, axis=2)
            if round_ == self.iterations - 1:
                return squash(ops.sum(share * predicted, axis=0))
            vectors = squash(ops.sum(share * given, axis=0))
            agreement = agreement + ops.sum(given * vectors[None], axis=-1, keepdims=True)
        raise AssertionError("at least one iteration")

    def get_config(self) -> dict[str, Any]:
        """For saving."""
        return {**super().get_config(), "count": self.count, "size": self.size, "iterations": self.iterations}
