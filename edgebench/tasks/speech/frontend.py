"""The front end as a layer, so that a model takes raw sound and LiteRT runs all of it."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from edgebench.tasks.speech.features import FFT, FLOOR, HOP, MELS, WINDOW, fourier_basis, frames_of, mel_matrix

RANGE = 9.0
"""In nepers of power; 39 dB."""


@keras.saving.register_keras_serializable(package="edgebench")
class LogMel(keras.layers.Layer):
    """int16 [batch, n] -> float32 [batch, frame, MELS], as `features.log_mel`; it has nothing to learn."""

    def call(self, sound: Any) -> Any:
        parts = ops.conv(ops.expand_dims(ops.cast(sound, "float32"), -1), fourier_basis(WINDOW, FFT), HOP, "valid")
        real, imaginary = ops.split(parts, 2, axis=-1)
        power = ops.square(real) + ops.square(imaginary)
        return ops.log(ops.matmul(power, mel_matrix(MELS, FFT)) + FLOOR)

    def compute_output_shape(self, input_shape: tuple[int | None, int]) -> tuple[int | None, int, int]:
        return (input_shape[0], frames_of(input_shape[1]), MELS)


@keras.saving.register_keras_serializable(package="edgebench")
class Levelled(keras.layers.Layer):
    """Logarithms of powers relative to the loudest of the utterance, cut RANGE below it, from −1 to 1."""

    def call(self, mel: Any) -> Any:
        loudest = ops.max(mel, axis=(1, 2), keepdims=True)
        return ops.maximum(mel - loudest, -RANGE) * (2 / RANGE) + 1
