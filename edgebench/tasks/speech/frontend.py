"""The front end inside a model, so that it takes raw sound and LiteRT runs all of it.

Of Keras's own operations and constants: there is nothing to learn in it, hence no parameter, and a saved model loads
anywhere, without a layer of ours.
"""

from __future__ import annotations

from typing import Any

from keras import layers, ops

from edgebench.tasks.speech.features import FFT, FLOOR, HOP, MELS, WINDOW, fourier_basis, mel_matrix

RANGE = 9.0
"""In natural logarithms of power: 39 dB."""


def power(sound: Any, window: int, fft: int) -> Any:
    """Power spectra float32 [batch, frame, fft / 2 + 1] of sound int16 [batch, n]: a convolution with a Fourier basis.

    window: samples of a frame; the spectrum is that of a frame with zeros added up to `fft` samples.
    """
    samples = layers.Reshape((sound.shape[1], 1))(ops.cast(sound, "float32"))
    parts = ops.conv(samples, fourier_basis(window, fft), HOP, "valid")
    real, imaginary = ops.split(parts, 2, axis=-1)
    return ops.square(real) + ops.square(imaginary)


def log_mel(sound: Any) -> Any:
    """As `features.log_mel`: float32 [batch, frame, MELS] of sound int16 [batch, n]."""
    return ops.log(ops.matmul(power(sound, WINDOW, FFT), mel_matrix(MELS, FFT)) + FLOOR)


def levelled(logarithms: Any) -> Any:
    """Logarithms of power [batch, frame, band] relative to the loudest of the utterance, cut RANGE below: −1 to 1."""
    loudest = ops.max(logarithms, axis=(1, 2), keepdims=True)
    return ops.maximum(logarithms - loudest, -RANGE) * (2 / RANGE) + 1
