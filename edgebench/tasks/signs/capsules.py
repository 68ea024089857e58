"""Capsules: groups of neurons whose vector's length says how likely a thing is there, and its direction how it looks.

All of it is made of layers that Keras has, so that a saved model loads where this project is not.
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
    # Not divided by 1 + |s|², which full-integer arithmetic may round to 0.
    return vectors * (ops.sqrt(square + _TINY) * ops.square(ops.rsqrt(1.0 + square)))


def lengths(vectors: Any) -> Any:
    """The length of each capsule's vector: [..., capsule, size] -> [..., capsule]."""
    return ops.sqrt(ops.sum(ops.square(vectors), axis=-1) + _TINY)


def primary_capsules(features: Any, size: int) -> Any:
    """The lowest capsules, of each place several: [batch, row, column, n · size] -> [batch, capsule, size]."""
    _, rows, columns, channels = features.shape
    return squash(ops.reshape(features, (-1, rows * columns * channels // size, size)))


def routed_capsules(below: Any, count: int, size: int, *, iterations: int = 3) -> Any:
    """Capsules that those below agree on: [batch, below, size below] -> [batch, count, size].

    Each capsule below predicts each of these by a matrix of its own (eq. 2); see `agreed` for what becomes of it.
    """
    predict = layers.EinsumDense(
        "bpi,pij->bpj",
        output_shape=(below.shape[1], count * size),
        kernel_initializer=keras.initializers.RandomNormal(stddev=0.1),
        name="predict",
    )
    return agreed(ops.reshape(predict(below), (-1, below.shape[1], count, size)), iterations=iterations)


def agreed(predicted: Any, *, iterations: int) -> Any:
    """Routing by agreement (procedure 1): predictions [batch, below, capsule, size] -> [batch, capsule, size].

    What a capsule below gives to each above it grows with how far its prediction points along that one's vector, from
    round to round. Derivatives go through the last round alone: the shares that it uses count as given.
    """
    given = ops.stop_gradient(predicted)
    vectors = squash(ops.mean(given, axis=1) * (predicted.shape[1] / predicted.shape[2]))
    agreement = _along(given, vectors)
    for _ in range(iterations - 2):
        vectors = squash(ops.sum(ops.softmax(agreement, axis=2) * given, axis=1))
        agreement = agreement + _along(given, vectors)
    return squash(ops.sum(ops.softmax(agreement, axis=2) * predicted, axis=1))


def _along(predicted: Any, vectors: Any) -> Any:
    return ops.sum(predicted * ops.expand_dims(vectors, axis=1), axis=-1, keepdims=True)


def margin_loss(labels: Any, given: Any) -> Any:
    """Loss [batch] of lengths [batch, class] for class numbers [batch, 1]: the right class should be longer than 0.9,
    each other one shorter than 0.1 (eq. 4)."""
    present = ops.one_hot(ops.cast(ops.reshape(labels, (-1,)), "int32"), given.shape[-1])
    short, long = ops.square(ops.relu(0.9 - given)), ops.square(ops.relu(given - 0.1))
    return ops.sum(present * short + 0.5 * (1 - present) * long, axis=-1)
