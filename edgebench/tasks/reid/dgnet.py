"""DG-Net, small: who a picture shows and how they stand are coded apart, and pictures are made of the two.

The appearance encoder, whose code is the embedding, learns with a structure encoder, which sees no colours, and a
generator that paints a structure with an appearance. Left out: the discriminator, which would double the cost of a
step, so what is made is blurred. Source: Zheng et al. 2019.
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import layers, ops
from numpy.typing import NDArray

from edgebench.tasks.models import outputs_of

PICTURE, CODE, STRUCTURE, MADE = 5.0, 2.0, 1.0, 0.5
"""The weights of: pictures made anew, codes found again in what was made, and its structure, and its identity."""
_GREY = (0.299, 0.587, 0.114)


@keras.saving.register_keras_serializable(package="edgebench")
class Painted(layers.Layer):
    """Features [batch, h, w, c] normalised in each picture and channel, then scaled and shifted as the appearance
    [batch, dimension] says. Source: Huang and Belongie 2017 (AdaIN)."""

    def build(self, input_shape: Any) -> None:
        """A scale and a shift for each channel."""
        channels = input_shape[0][-1]
        self.style = layers.Dense(2 * channels)
        self.style.build(input_shape[1])

    def call(self, inputs: Any) -> Any:
        """features, appearance."""
        features, appearance = inputs
        centred = features - ops.mean(features, axis=(1, 2), keepdims=True)
        spread = ops.sqrt(ops.mean(ops.square(centred), axis=(1, 2), keepdims=True) + 1e-5)
        scale, shift = ops.split(self.style(appearance)[:, None, None, :], 2, axis=-1)
        return centred / spread * (1 + scale) + shift

    def compute_output_shape(self, input_shape: Any) -> Any:
        """That of the features."""
        return input_shape[0]


def structure_encoder(shape: tuple[int, ...]) -> keras.Model:
    """From pictures [height, width, 3], −1 to 1, to structures [height / 4, width / 4, 16]; colours are not seen."""
    inputs = keras.Input(shape)
    grey = layers.Conv2D(1, 1, use_bias=False, trainable=False, name="grey")
    x = grey(inputs)
    grey.set_weights([np.array(_GREY, np.float32).reshape(1, 1, 3, 1)])
    for channels in (16, 32):
        x = layers.Conv2D(channels, 3, 2, padding="same")(x)
        x = layers.ReLU()(layers.GroupNormalization(groups=-1)(x))
    return keras.Model(inputs, layers.Conv2D(16, 3, padding="same")(x), name="structure")


def generator(dimension: int, structure: tuple[int, ...]) -> keras.Model:
    """From appearances [dimension] times √dimension and structures to pictures [height, width, 3], −1 to 1."""
    appearance, stand = keras.Input((dimension,)), keras.Input(structure)
    x = layers.Conv2D(32, 3, padding="same")(stand)
    for _ in range(2):
        y = layers.ReLU()(Painted()([layers.Conv2D(32, 3, padding="same")(x), appearance]))
        x = layers.Add()([x, layers.Conv2D(32, 3, padding="same")(y)])
    for channels in (24, 12):
        x = layers.Conv2D(channels, 3, padding="same")(layers.UpSampling2D(2)(x))
        x = layers.LeakyReLU(0.2)(Painted()([x, appearance]))
    x = layers.Conv2D(3, 3, padding="same", activation="tanh")(x)
    return keras.Model([appearance, stand], x, name="generator")


class DGNet(keras.Model):
    """What is trained, on: pictures uint8 [batch, …], the places [batch] of another of the same person each and of
    somebody else, and numbers [batch] of people. Outputs are the embeddings and, by person, the logits.

    Of the batch, every second picture is painted anew, by the code of another picture of the same person and by that of
    somebody else.
    """

    def __init__(self, appearance: keras.Model, shape: tuple[int, ...], *, people: int) -> None:
        super().__init__(name="dg-net")
        self.coder = keras.Model(appearance.inputs[0], [appearance.outputs[0], appearance.get_layer("centre").output])
        self.structure = structure_encoder(shape)
        self.generator = generator(appearance.output_shape[-1], self.structure.output_shape[1:])
        self.people = layers.Dense(people, use_bias=False)
        self.people.build((None, appearance.output_shape[-1]))
        self._scale = float(np.sqrt(appearance.output_shape[-1]))
        self.built = True

    def call(self, inputs: Any, training: bool = False) -> Any:
        """See the class."""
        picture, same, other, person = inputs
        code, centred = self.coder(picture, training=training)
        pixels = ops.cast(picture, "float32")[::2] / 127.5 - 1
        structure = self.structure(pixels)
        # Made anew by the code of another picture of the same person: what differs between the two is structure.
        anew = self.paint(ops.take(code, same[::2], axis=0), structure)
        self.add_loss(PICTURE * ops.mean(ops.abs(anew - pixels)))
        theirs = ops.take(code, other[::2], axis=0)
        crossed = self.paint(theirs, structure)
        found, found_centred = self.coder((crossed + 1) * 127.5, training=False)
        self.add_loss(CODE * (1 - ops.mean(ops.sum(found * ops.stop_gradient(theirs), axis=1))))
        self.add_loss(STRUCTURE * ops.mean(ops.abs(self.structure(crossed) - ops.stop_gradient(structure))))
        whose = ops.take(person, other[::2], axis=0)
        named = keras.losses.sparse_categorical_crossentropy(whose, self.people(found_centred), from_logits=True)
        self.add_loss(MADE * ops.mean(named))
        return code, self.people(centred)

    def paint(self, code: Any, structure: Any) -> Any:
        """Pictures [batch, height, width, 3], −1 to 1."""
        return self.generator([code * self._scale, structure])


def made_grid(dgnet: DGNet, appearance: NDArray[np.uint8], structure: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """One picture: the appearances [row, height, width, 3] at the left, the structures [column, …] on top, and what
    the generator makes of each two where they cross."""
    rows, columns = len(appearance), len(structure)
    code = outputs_of(keras.Model(dgnet.coder.inputs[0], dgnet.coder.outputs[0]), appearance)
    stand = ops.convert_to_numpy(dgnet.structure(structure.astype(np.float32) / 127.5 - 1))
    made = ops.convert_to_numpy(dgnet.paint(np.repeat(code, columns, axis=0), np.tile(stand, (rows, 1, 1, 1))))
    painted = np.rint((made + 1) * 127.5).astype(np.uint8).reshape(rows, columns, *appearance.shape[1:])
    corner = np.full((1, 1, *appearance.shape[1:]), 255, np.uint8)
    top = np.concatenate([corner, structure[None]], axis=1)
    below = np.concatenate([appearance[:, None], painted], axis=1)
    table = np.concatenate([top, below])
    height, width = appearance.shape[1:3]
    return table.transpose(0, 2, 1, 3, 4).reshape((rows + 1) * height, (columns + 1) * width, 3)
