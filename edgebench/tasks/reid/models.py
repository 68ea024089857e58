"""The networks: `light` for the edge, DG-Net's appearance encoder small for the cloud and as published.

Every one takes pictures uint8 [batch, height, width, 3], normalises inside and gives embeddings float32
[batch, dimension] of length 1. All convert to LiteRT with built-in operations.
"""

from __future__ import annotations

from typing import Any

import keras
from keras import layers

from edgebench.tasks.task import Size

PUBLISHED_SIZE = (256, 128)
STRIPES = 6
"""People stand upright: what is worn where is told apart by its height, as Sun et al. 2018 do."""
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Of ImageNet, for pixels from 0 to 1."""


def build(size: Size, shape: tuple[int, ...]) -> keras.Model:
    """A new network for pictures of this shape (height, width, 3); the layer before `embedding` is `centre`."""
    inputs = keras.Input(shape, dtype="uint8", name="sample")
    centred = _BUILDERS[size](inputs)
    return keras.Model(inputs, layers.UnitNormalization(name="embedding")(centred), name=f"reid-{size}")


def _light(x: Any) -> Any:
    """Depthwise separable convolutions, a projection of each stripe."""
    x = _conv(layers.Rescaling(1 / 127.5, offset=-1.0, name="normalise")(x), 16, 3, strides=2)
    for channels, strides in ((32, 2), (32, 1), (64, 2), (64, 1)):
        x = layers.DepthwiseConv2D(3, strides, padding="same", use_bias=False)(x)
        x = layers.ReLU()(layers.BatchNormalization(momentum=0.9)(x))
        x = _conv(x, channels, 1)
    return _by_stripes(x, 16)


def _appearance(x: Any) -> Any:
    """Residual stages in place of ResNet-50's; a projection of each stripe."""
    x = _conv(layers.Rescaling(1 / 127.5, offset=-1.0, name="normalise")(x), 24, 3, strides=2)
    for channels in (48, 96):
        x = _conv(x, channels, 3, strides=2)
        y = _conv(_conv(x, channels, 3), channels, 3)
        x = layers.Add()([x, y])
    return _by_stripes(x, 32)


def _by_stripes(x: Any, dimension: int) -> Any:
    height, width = x.shape[1:3]
    x = layers.AveragePooling2D((height // STRIPES, width))(x)
    x = layers.Flatten()(layers.Conv2D(dimension, 1, use_bias=False)(x))
    return layers.BatchNormalization(name="centre", momentum=0.9)(layers.Dropout(0.2)(x))


def _published(x: Any) -> Any:
    """ResNet-50 at 256 × 128 without its last stride, and two vectors of 512, of the whole and of what is fine.

    Sources: Zheng et al. 2019 (DG-Net), section 3.2, and the network published with it, `ft_netAB` in its reIDmodel.py:
    two fully connected layers, each with batch normalisation and dropout, on the average over the picture.
    """
    if x.shape[1:3] != PUBLISHED_SIZE:
        x = layers.Resizing(*PUBLISHED_SIZE, name="enlarged")(x)
    x = layers.Rescaling(1 / 255.0)(x)
    x = layers.Normalization(mean=_MEAN, variance=[std**2 for std in _STD])(x)
    x = layers.ReLU()(_normalised(layers.Conv2D(64, 7, 2, padding="same", use_bias=False)(x)))
    x = layers.MaxPooling2D(3, 2, padding="same")(x)
    for channels, blocks, strides in ((64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 1)):
        for block in range(blocks):
            x = _bottleneck(x, channels, strides if block == 0 else 1)
    x = layers.GlobalAveragePooling2D()(x)
    halves = [
        layers.Dropout(rate)(layers.BatchNormalization()(layers.Dense(512, name=name)(x)))
        for name, rate in (("prime", 0.5), ("fine", 0.75))
    ]
    return layers.Concatenate(name="centre")(halves)


def _bottleneck(x: Any, channels: int, strides: int) -> Any:
    """1 × 1, 3 × 3 and 1 × 1, and a shortcut. Source: He et al. 2016, figure 5."""
    y = layers.ReLU()(_normalised(layers.Conv2D(channels, 1, use_bias=False)(x)))
    y = layers.ReLU()(_normalised(layers.Conv2D(channels, 3, strides, padding="same", use_bias=False)(y)))
    y = _normalised(layers.Conv2D(4 * channels, 1, use_bias=False)(y))
    if x.shape[-1] != 4 * channels:
        x = _normalised(layers.Conv2D(4 * channels, 1, strides, use_bias=False)(x))
    return layers.ReLU()(layers.Add()([x, y]))


def _normalised(x: Any) -> Any:
    return layers.BatchNormalization(epsilon=1e-5)(x)


def _conv(x: Any, channels: int, kernel: int, strides: int = 1) -> Any:
    y = layers.Conv2D(channels, kernel, strides, padding="same", use_bias=False, kernel_initializer="he_normal")(x)
    return layers.ReLU()(layers.BatchNormalization(momentum=0.9)(y))


_BUILDERS = {"light": _light, "heavy": _appearance, "published": _published}
