"""The front end, in NumPy and inside a model."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import ops

from edgebench.seeds import rng_for
from edgebench.tasks.speech.features import FFT, FLOOR, HOP, MELS, WINDOW, log_mel, mel_matrix
from edgebench.tasks.speech.frontend import RANGE, levelled
from edgebench.tasks.speech.frontend import log_mel as log_mel_inside
from tests.tasks.speech.sounds import tone


def test_a_second_has_98_whole_frames() -> None:
    assert log_mel(np.zeros((2, 8_000), np.int16)).shape == (2, 98, MELS)


def test_silence_is_at_the_floor() -> None:
    assert log_mel(np.zeros((1, 400), np.int16)) == pytest.approx(np.log(FLOOR))


@pytest.mark.parametrize("hz", [250.0, 1_000.0, 3_000.0])
def test_a_tone_is_loudest_in_the_band_about_it(hz: float) -> None:
    sound = np.round(tone(hz, 0.1) * 32_768).astype(np.int16)[None]
    loudest = int(log_mel(sound).mean(axis=(0, 1)).argmax())
    # The band's middle, worked out from mel = 2595 log10(1 + f / 700): 42 edges from 20 Hz to 4 kHz.
    low, high = 2_595 * np.log10(1 + np.array([20.0, 4_000.0]) / 700)
    middle_hz = 700 * (10 ** ((low + (high - low) * (loudest + 1) / (MELS + 1)) / 2_595) - 1)
    assert middle_hz == pytest.approx(hz, rel=0.06)


def test_twice_the_amplitude_is_four_times_the_power() -> None:
    sound = np.round(tone(1_000, 0.1) * 8_192).astype(np.int16)[None]
    louder = log_mel(2 * sound).max() - log_mel(sound).max()
    assert louder == pytest.approx(np.log(4), abs=1e-3)


def test_every_mel_band_has_a_bin() -> None:
    assert (mel_matrix(MELS, FFT).sum(axis=0) > 0).all()


def test_a_model_computes_what_numpy_does() -> None:
    sound = rng_for(1, "noise").normal(0, 3_000, (3, 2_000)).astype(np.int16)
    sound[:, 1_200:] = 0
    inside = keras.Input((2_000,), dtype="int16")
    model = keras.Model(inside, log_mel_inside(inside))
    assert model.count_params() == 0
    assert model.output_shape == (None, (2_000 - WINDOW) // HOP + 1, MELS)
    assert ops.convert_to_numpy(model(sound)) == pytest.approx(log_mel(sound), abs=2e-3)


def test_levels_are_relative_to_the_loudest_and_cut() -> None:
    logarithms = np.array([[[1.0, 1 - RANGE / 2], [-50, 0]]], np.float32)
    found = ops.convert_to_numpy(levelled(logarithms))
    assert found == pytest.approx(np.array([[[1.0, 0.0], [-1.0, 1 - 2 / RANGE]]]), abs=1e-6)
    assert ops.convert_to_numpy(levelled(logarithms + 7)) == pytest.approx(found, abs=1e-5)
