"""The networks: `light` for the edge, two for the cloud, `published` in the shape of the literature.

Every one takes pictures uint8 [batch, height, width, channel], normalises inside and gives embeddings float32
[batch, dimension] of length 1. All convert to LiteRT with built-in operations.
"""

from __future__ import annotations

from typing import Any, Literal

import keras
from keras import layers

from edgebench.tasks.task import Size

Backbone = Literal["mobilefacenet", "sphereface", "facenet", "sphereface-20"]
Heavy = Literal["sphereface", "facenet"]

DIMENSIONS = {"mobilefacenet": 64, "sphereface": 128, "facenet": 128, "sphereface-20": 512}
PUBLISHED_SIZE = (112, 96)


def backbone_of(size: Size, heavy: Heavy) -> Backbone:
    """The network of a size."""
    return "mobilefacenet" if size == "light" else heavy if size == "heavy" else "sphereface-20"


def build(backbone: Backbone, shape: tuple[int, ...]) -> keras.Model:
    """A new network for pictures of this shape (height, width, channel)."""
    inputs = keras.Input(shape, dtype="uint8", name="sample")
    pixels = layers.Rescaling(1 / 127.5, offset=-1.0, name="normalise")(inputs)
    features = _BUILDERS[backbone](pixels)
    return keras.Model(inputs, layers.UnitNormalization(name="embedding")(features), name=backbone)


def _mobilefacenet(x: Any) -> Any:
    """Depthwise separable bottlenecks, and a depthwise convolution over the whole at the end.

    Source: Chen et al. 2018, table 1, with half the resolution, fewer layers and fewer channels.
    """
    x = _conv(x, 32, 3, strides=2)
    x = _depthwise(x, 3)
    for channels, strides in ((32, 2), (32, 1), (64, 2), (64, 1), (64, 1)):
        x = _bottleneck(x, channels, strides)
    x = _conv(x, 128, 1)
    x = layers.DepthwiseConv2D(x.shape[1:3], use_bias=False)(x)
    x = layers.Dropout(0.2)(layers.Flatten()(layers.BatchNormalization()(x)))
    return layers.BatchNormalization(name="centre")(layers.Dense(DIMENSIONS["mobilefacenet"], use_bias=False)(x))


def _bottleneck(x: Any, channels: int, strides: int) -> Any:
    y = _conv(x, 2 * x.shape[-1], 1)
    y = _depthwise(y, 3, strides)
    y = layers.BatchNormalization()(layers.Conv2D(channels, 1, use_bias=False)(y))
    return layers.Add()([x, y]) if strides == 1 and x.shape[-1] == channels else y


def _sphereface(x: Any) -> Any:
    """Residual units without shortcuts of their own; each stage begins with a convolution that halves the picture.

    Source: Liu et al. 2017, table 2, at half the resolution and a narrower width, with batch normalisation.
    """
    for channels, units in ((32, 1), (64, 2), (128, 2)):
        x = _conv(x, channels, 3, strides=2)
        for _ in range(units):
            x = layers.Add()([x, _conv(_conv(x, channels, 3), channels, 3)])
    x = layers.Dropout(0.4)(layers.Flatten()(x))
    return layers.BatchNormalization(name="centre")(layers.Dense(DIMENSIONS["sphereface"], use_bias=False)(x))


def _facenet(x: Any) -> Any:
    """A stem and two stages of Inception-ResNet blocks.

    Source: Szegedy et al. 2017 (Inception-ResNet-v1), whose blocks A and B stand here for pictures of 56 × 48. Faces
    are aligned, so a depthwise convolution that knows the places stands for the average over them.
    """
    x = _conv(x, 32, 3, strides=2)
    x = _conv(x, 64, 3, strides=2)
    for _ in range(2):
        x = _inception(x, [[(24, (1, 1))], [(24, (1, 1)), (24, (3, 3))], [(24, (1, 1)), (24, (3, 3)), (24, (3, 3))]])
    x = layers.Concatenate()([_conv(x, 96, 3, strides=2), layers.MaxPooling2D(3, 2, padding="same")(x)])
    for _ in range(2):
        x = _inception(x, [[(48, (1, 1))], [(48, (1, 1)), (48, (1, 5)), (48, (5, 1))]])
    x = layers.DepthwiseConv2D(x.shape[1:3], use_bias=False)(x)
    x = layers.Dropout(0.2)(layers.Flatten()(layers.BatchNormalization()(x)))
    return layers.BatchNormalization(name="centre")(layers.Dense(DIMENSIONS["facenet"], use_bias=False)(x))


def _inception(x: Any, branches: list[list[tuple[int, tuple[int, int]]]]) -> Any:
    ends = []
    for branch in branches:
        y = x
        for channels, kernel in branch:
            y = _conv(y, channels, kernel)
        ends.append(y)
    joined = layers.Conv2D(x.shape[-1], 1)(layers.Concatenate()(ends))
    # Scaled down, as its authors do to keep residuals from running away.
    return layers.ReLU()(layers.Add()([x, layers.Rescaling(0.2)(joined)]))


def _sphereface_20(x: Any) -> Any:
    """SphereFace with 20 layers for 112 × 96 × 3, to which other pictures are brought.

    Source: Liu et al. 2017, table 2, and its published network: the first convolution of a stage has a bias,
    those of its residual units have none, each is followed by a PReLU with a slope for each channel.
    """
    if x.shape[-1] == 1:
        x = layers.Concatenate()([x, x, x])
    if x.shape[1:3] != PUBLISHED_SIZE:
        x = layers.Resizing(*PUBLISHED_SIZE, name="enlarged")(x)
    for channels, units in ((64, 1), (128, 2), (256, 4), (512, 1)):
        x = _published_conv(x, channels, strides=2)
        for _ in range(units):
            x = layers.Add()([x, _published_conv(_published_conv(x, channels), channels)])
    return layers.Dense(DIMENSIONS["sphereface-20"])(layers.Flatten()(x))


def _published_conv(x: Any, channels: int, strides: int = 1) -> Any:
    y = layers.Conv2D(channels, 3, strides, padding="same", use_bias=strides > 1, kernel_initializer="he_normal")(x)
    return layers.PReLU(shared_axes=[1, 2], alpha_initializer=keras.initializers.Constant(0.25))(y)


_BUILDERS = {
    "mobilefacenet": _mobilefacenet,
    "sphereface": _sphereface,
    "facenet": _facenet,
    "sphereface-20": _sphereface_20,
}


def _conv(x: Any, channels: int, kernel: int | tuple[int, int], strides: int = 1) -> Any:
    y = layers.Conv2D(channels, kernel, strides, padding="same", use_bias=False, kernel_initializer="he_normal")(x)
    return layers.PReLU(shared_axes=[1, 2])(layers.BatchNormalization()(y))


def _depthwise(x: Any, kernel: int, strides: int = 1) -> Any:
    y = layers.DepthwiseConv2D(kernel, strides, padding="same", use_bias=False)(x)
    return layers.PReLU(shared_axes=[1, 2])(layers.BatchNormalization()(y))
