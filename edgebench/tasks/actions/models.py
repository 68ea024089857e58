"""The networks: `light` for the edge, `heavy` for the cloud, `published` in the shape of the literature.

Every one takes raw samples of one of two kinds, which the sample's shape tells: skeletons uint8 [batch, joint, step, 3]
(see `skeletons`) or frames uint8 [batch, frame, height, width, 3]. It gives probabilities float32 [batch, class].

Frames are looked at one by one, with the same weights, and what they say is averaged before the softmax. Source: Wang
et al. 2016, temporal segment networks.
"""

from __future__ import annotations

from typing import Any

import keras
from keras import layers, ops

from edgebench.inference.spec import TensorSpec
from edgebench.tasks.actions.skeletons import LEVELS_PER_TORSO
from edgebench.tasks.task import Size

PUBLISHED_SIDE = 224

_VELOCITY = 4.0
"""The way of two steps is multiplied by it, and then about as large as a place."""
_STAGES = 4
_BLOCKS = 2
"""Of a stage; with two convolutions each, the first one and the last product these are the 18 layers."""


def build(size: Size, spec: TensorSpec, classes: int) -> keras.Model:
    """A new network for samples of this spec."""
    inputs = keras.Input(spec.shape, dtype=spec.dtype, name="sample")
    logits = _of_frames(size, inputs, classes) if len(spec.shape) == 4 else _of_skeletons(size, inputs, classes)
    return keras.Model(inputs, layers.Softmax(name="probability")(logits), name=size)


def _of_skeletons(size: Size, inputs: Any, classes: int) -> Any:
    if size == "published":
        return _logits(_resnet(_enlarged(_pixels(inputs)), 64, picture=True), classes)
    place = (ops.cast(inputs, "float32") - 128.0) / LEVELS_PER_TORSO
    way = ops.pad(place[:, :, 2:] - place[:, :, :-2], ((0, 0), (0, 0), (1, 1), (0, 0)))
    both = ops.concatenate([place, _VELOCITY * way], axis=-1)
    if size == "heavy":
        return _logits(_resnet(both, 32, picture=False), classes, dropout=0.4)
    joints, steps, values = both.shape[1:]
    series = ops.reshape(ops.transpose(both, (0, 2, 1, 3)), (-1, steps, joints * values))
    return _logits(_series(series), classes, dropout=0.4)


def _of_frames(size: Size, inputs: Any, classes: int) -> Any:
    frames, *picture = inputs.shape[1:]
    pixels = _pixels(ops.reshape(inputs, (-1, *picture)))
    if size == "light":
        seen = _convolved(pixels)
    else:
        seen = _resnet(_enlarged(pixels) if size == "published" else pixels, 64, picture=True)
    each = _logits(seen, classes, dropout=0.0 if size == "published" else 0.4)
    return ops.mean(ops.reshape(each, (-1, frames, classes)), axis=1)


def _pixels(values: Any) -> Any:
    return ops.cast(values, "float32") / 127.5 - 1.0


def _enlarged(pixels: Any) -> Any:
    return layers.Resizing(PUBLISHED_SIDE, PUBLISHED_SIDE, name="enlarged")(pixels)


def _logits(features: Any, classes: int, dropout: float = 0.0) -> Any:
    if dropout:
        features = layers.Dropout(dropout)(features)
    return layers.Dense(classes, name="logits")(features)


def _series(steps: Any) -> Any:
    """Three convolutions over time, [batch, step, value] -> [batch, 192], without statistics of batches: a device that
    learns sees the samples of one person only."""
    steps = layers.SpatialDropout1D(0.1)(steps)
    for depth in range(3):
        if depth:
            steps = layers.Dropout(0.2)(layers.MaxPooling1D(2)(steps))
        convolved = layers.Conv1D(96, 5, padding="same", name=f"convolution_{depth}")(steps)
        steps = ops.relu(layers.LayerNormalization(name=f"normalisation_{depth}")(convolved))
    return ops.concatenate([ops.mean(steps, axis=1), ops.max(steps, axis=1)], axis=-1)


def _convolved(pixels: Any) -> Any:
    """Five convolutions over a picture, [batch, height, width, 3] -> [batch, 128]."""
    for depth, filters in enumerate((16, 32, 64, 96, 128)):
        convolved = layers.Conv2D(filters, 3, strides=2, padding="same", name=f"convolution_{depth}")(pixels)
        pixels = ops.relu(layers.LayerNormalization(name=f"normalisation_{depth}")(convolved))
    return ops.mean(pixels, axis=(1, 2))


def _resnet(x: Any, width: int, *, picture: bool) -> Any:
    """ResNet-18 up to its last product, [batch, height, width, channel] -> [batch, 8 * width].

    picture: with the large first convolution and the pooling that bring a photograph to a quarter of its size; without
    them for the small pictures of skeletons. Source: He et al. 2015, table 1, with its option B.
    """
    x = ops.relu(_normal(_convolution(x, width, 7 if picture else 3, (2, 2) if picture else (1, 1))))
    if picture:
        x = layers.MaxPooling2D(3, strides=2, padding="same")(x)
    for stage in range(_STAGES):
        for block in range(_BLOCKS):
            # Of skeletons the first stage halves time alone: there are more steps than joints.
            halved = (2, 2) if stage else (1, 1) if picture else (1, 2)
            x = _block(x, width * 2**stage, halved if not block else (1, 1))
    return ops.mean(x, axis=(1, 2))


def _block(x: Any, filters: int, strides: tuple[int, int]) -> Any:
    inside = ops.relu(_normal(_convolution(x, filters, 3, strides)))
    inside = _normal(_convolution(inside, filters, 3, (1, 1)))
    if strides != (1, 1) or x.shape[-1] != filters:
        x = _normal(_convolution(x, filters, 1, strides))
    return ops.relu(inside + x)


def _convolution(x: Any, filters: int, kernel: int, strides: tuple[int, int]) -> Any:
    how = layers.Conv2D(
        filters, kernel, strides=strides, padding="same", use_bias=False, kernel_initializer="he_normal"
    )
    return how(x)


def _normal(x: Any) -> Any:
    return layers.BatchNormalization(momentum=0.9)(x)
