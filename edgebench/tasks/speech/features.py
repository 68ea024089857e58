"""The front end: from sound to a log-mel spectrogram, in NumPy.

`edgebench.tasks.speech.frontend` does the same inside a model, with the matrices from here.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

RATE_HZ = 8_000
"""Of every sample; other rates are converted to it when data is read."""
WINDOW = 200
"""Samples of a frame: 25 ms."""
HOP = 80
"""Samples from one frame to the next: 10 ms."""
FFT = 256
MELS = 40
FLOOR = 1e-8
"""Added to every power, of sound between −1 and 1: about the noise of 16-bit sound."""
LOWEST_HZ = 20.0
_FULL_SCALE = 32_768.0


def log_mel(audio: NDArray[np.int16]) -> NDArray[np.float32]:
    """Natural logarithms of mel powers float32 [sample, frame, MELS] of sound int16 [sample, n] at RATE_HZ."""
    frames = np.lib.stride_tricks.sliding_window_view(audio, WINDOW, axis=1)[:, ::HOP]
    scaled = frames.astype(np.float32) * (np.hanning(WINDOW).astype(np.float32) / np.float32(_FULL_SCALE))
    spectrum = np.fft.rfft(scaled, FFT, axis=2)
    power = spectrum.real**2 + spectrum.imag**2
    return np.log(power.astype(np.float32) @ mel_matrix(MELS, FFT) + np.float32(FLOOR))


def fourier_basis(window: int, fft: int) -> NDArray[np.float32]:
    """A windowed Fourier transform as the filters of a convolution: [window, 1, 2 * (fft / 2 + 1)].

    Applied to int16 samples they give real parts, then imaginary ones, of what lies between −1 and 1.
    """
    turn = 2 * np.pi * np.arange(window)[:, None] * np.arange(fft // 2 + 1)[None, :] / fft
    shape = np.hanning(window)[:, None] / _FULL_SCALE
    return np.concatenate([shape * np.cos(turn), -shape * np.sin(turn)], axis=1)[:, None, :].astype(np.float32)


def mel_matrix(mels: int, fft: int) -> NDArray[np.float32]:
    """Triangular filters, even in mel from LOWEST_HZ to half of RATE_HZ: [fft / 2 + 1, mels].

    mel = 2595 log10(1 + f / 700). Source: O'Shaughnessy 1987, Speech Communication: Human and Machine.
    """
    low, high = (2_595 * np.log10(1 + hz / 700) for hz in (LOWEST_HZ, RATE_HZ / 2))
    edges = 700 * (10 ** (np.linspace(low, high, mels + 2) / 2_595) - 1)
    hz = np.arange(fft // 2 + 1)[:, None] * RATE_HZ / fft
    rising = (hz - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - hz) / (edges[2:] - edges[1:-1])
    return np.maximum(0, np.minimum(rising, falling)).astype(np.float32)
