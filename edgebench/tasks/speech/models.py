"""The networks: `light` for the edge, `heavy` for the cloud, `published` in the shape of the literature.

Every one takes raw sound int16 [batch, n] and gives log-probabilities float32 [batch, steps * 29] of a blank and 28
characters every 20 ms.
"""

from __future__ import annotations

from typing import Any

import keras
from keras import layers, ops

from edgebench.tasks.speech.frontend import Levelled, LogMel
from edgebench.tasks.speech.transcripts import ALPHABET
from edgebench.tasks.task import Size


def build(size: Size, samples: int) -> keras.Model:
    """A new network for sound of so many samples."""
    sound = keras.Input((samples,), dtype="int16", name="sample")
    hidden = {"light": _light, "heavy": _heavy}[size](Levelled()(LogMel()(sound)))
    scores = layers.Dense(ALPHABET, name="characters")(hidden)
    likely = ops.log_softmax(scores, axis=-1)
    return keras.Model(sound, layers.Flatten(name="steps")(likely), name=size)


def _light(mel: Any) -> Any:
    steps = mel
    for number, stride in ((1, 2), (2, 1)):
        steps = layers.Conv1D(64, 5, strides=stride, padding="same", use_bias=False, name=f"convolution_{number}")(steps)
        steps = layers.ReLU()(layers.BatchNormalization()(steps))
        steps = layers.Dropout(0.2)(steps)
    return layers.Dropout(0.2)(layers.Bidirectional(layers.GRU(48, return_sequences=True), name="course")(steps))


def _heavy(mel: Any) -> Any:
    """A small DeepSpeech2. Source: Amodei et al. 2016, Deep Speech 2: end-to-end speech recognition."""
    picture = ops.expand_dims(mel, -1)
    for number, strides in ((1, (2, 2)), (2, (1, 2))):
        picture = layers.Conv2D(32, (5, 9) , strides=strides, padding="same", use_bias=False, name=f"convolution_{number}")(picture)
        picture = layers.ReLU(20)(layers.BatchNormalization()(picture))
    steps = layers.Reshape((picture.shape[1], picture.shape[2] * picture.shape[3]))(picture)
    for number in (1, 2):
        if number > 1:
            steps = layers.BatchNormalization()(steps)
        steps = layers.Dropout(0.2)(steps)
        steps = layers.Bidirectional(layers.GRU(96, return_sequences=True), merge_mode="sum", name=f"course_{number}")(steps)
    return layers.Dropout(0.2)(layers.BatchNormalization()(steps))
