"""The front end as layers, so that a model takes raw sound and LiteRT runs all of it.

None of them has anything to learn: their matrices are constants of the graph, and count as no parameters.
"""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from edgebench.tasks.speech.features import FFT, FLOOR, HOP, MELS, WINDOW, fourier_basis, frames_of, mel_matrix

RANGE = 9.0
"""In natural logarithms of power: 39 dB."""


@keras.saving.register_keras_serializable(package="edgebench")
class Power(keras.layers.Layer):
    """Sound int16 [batch, n] -> power spectra float32 [batch, frame, fft / 2 + 1]: a convolution with a Fourier basis.

    window: samples of a frame; the spectrum is that of a frame with zeros added up to `fft` samples.
    """

    def __init__(self, window: int = WINDOW, fft: int = FFT, **options: Any) -> None:
        super().__init__(**options)
        self.window, self.fft = window, fft

    def call(self, sound: Any) -> Any:
        """The spectra."""
        samples = ops.expand_dims(ops.cast(sound, "float32"), -1)
        parts = ops.conv(samples, fourier_basis(self.window, self.fft), HOP, "valid")
        real, imaginary = ops.split(parts, 2, axis=-1)
        return ops.square(real) + ops.square(imaginary)

    def compute_output_shape(self, input_shape: tuple[int | None, int]) -> tuple[int | None, int, int]:
        """Keras asks."""
        return (input_shape[0], frames_of(input_shape[1], self.window), self.fft // 2 + 1)

    def get_config(self) -> dict[str, Any]:
        """What `__init__` takes."""
        return {**super().get_config(), "window": self.window, "fft": self.fft}


@keras.saving.register_keras_serializable(package="edgebench")
class LogMel(keras.layers.Layer):
    """Power spectra [batch, frame, FFT / 2 + 1] -> log-mel spectrogram [batch, frame, MELS].

    After `Power()` it is `features.log_mel`.
    """

    def call(self, power: Any) -> Any:
        """The spectrogram."""
        return ops.log(ops.matmul(power, mel_matrix(MELS, FFT)) + FLOOR)


@keras.saving.register_keras_serializable(package="edgebench")
class Levelled(keras.layers.Layer):
    """Logarithms of power relative to the loudest of the utterance, cut RANGE below it: from −1 to 1."""

    def call(self, logarithms: Any) -> Any:
        """The levels."""
        loudest = ops.max(logarithms, axis=(1, 2), keepdims=True)
        return ops.maximum(logarithms - loudest, -RANGE) * (2 / RANGE) + 1
