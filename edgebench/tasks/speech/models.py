"""The networks: `light` for the edge, `heavy` for the cloud, `published` in the shape of the literature.

Every one takes raw sound int16 [batch, n] and gives, every 20 ms, log-probabilities of a blank and 28 characters:
float32 [batch, step * 29]. The front end is a part of it: LiteRT does it in a third of NumPy's time.

Heavy and published are DeepSpeech2: convolutions over time and frequency, bidirectional GRUs whose directions are
added, and batch normalisation over the whole sequence before each but the first. Source: Amodei et al. 2016, "Deep
Speech 2: end-to-end speech recognition in English and Mandarin". The published one has the size of TensorFlow's
example for LibriSpeech: 161 bins of a spectrogram of 20 ms, 32 filters of 11 × 41 and of 11 × 21 (frames × bins), five
layers of 800 units.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
from keras import layers, ops

from edgebench.tasks.speech.features import FLOOR, RATE_HZ
from edgebench.tasks.speech.frontend import levelled, log_mel, power
from edgebench.tasks.speech.transcripts import ALPHABET, BLANK
from edgebench.tasks.task import Size

_PUBLISHED_WINDOW = RATE_HZ // 50
_PUBLISHED_FFT = 320
"""161 bins, as many as 20 ms at 16 kHz give."""
_BLANK_AT_FIRST = 3.0


def build(size: Size, samples: int) -> keras.Model:
    """A new network for sounds of so many samples."""
    sound = keras.Input((samples,), dtype="int16", name="sample")
    if size == "published":
        spectrogram = levelled(ops.log(power(sound, _PUBLISHED_WINDOW, _PUBLISHED_FFT) + FLOOR))
        steps = _deep_speech(spectrogram, ((11, 41), (11, 21)), 5, 800, dropout=0)
    else:
        mel = levelled(log_mel(sound))
        steps = _light(mel) if size == "light" else _deep_speech(mel, ((5, 9), (3, 7)), 2, 96, dropout=0.1)
    characters = ops.log_softmax(layers.Dense(ALPHABET, name="characters")(steps), axis=-1)
    model = keras.Model(sound, layers.Flatten(name="steps")(characters), name=size)
    # CTC first learns that most steps are blank, which takes epochs: say so from the start.
    kernel, bias = model.get_layer("characters").get_weights()
    bias[BLANK] = _BLANK_AT_FIRST
    model.get_layer("characters").set_weights([kernel, bias])
    return model


def _normalised() -> Any:
    # An epoch has tens of batches, not thousands: with Keras's 0.99 the averages would trail the weights by epochs.
    return layers.BatchNormalization(momentum=0.9)


def _light(mel: Any) -> Any:
    steps = mel
    for number, stride in ((1, 2), (2, 1)):
        convolution = layers.Conv1D(64, 5, stride, padding="same", use_bias=False, name=f"convolution_{number}")
        steps = layers.ReLU()(_normalised()(convolution(steps)))
        steps = layers.Dropout(0.2)(steps)
    course = layers.Bidirectional(layers.GRU(64, return_sequences=True), name="course")
    return layers.Dropout(0.2)(course(steps))


def _deep_speech(
    spectrogram: Any, kernels: Sequence[tuple[int, int]], depth: int, units: int, *, dropout: float
) -> Any:
    """spectrogram: [batch, frame, bin]. kernels: each (frames, bins); the first convolution halves the frames."""
    picture = ops.expand_dims(spectrogram, -1)
    for number, kernel in enumerate(kernels, start=1):
        strides = (2 if number == 1 else 1, 2)
        convolution = layers.Conv2D(32, kernel, strides, "same", use_bias=False, name=f"convolution_{number}")
        picture = layers.ReLU(20)(_normalised()(convolution(picture)))
    steps = layers.Reshape((picture.shape[1], picture.shape[2] * picture.shape[3]))(picture)
    for number in range(1, depth + 1):
        if number > 1:
            steps = _normalised()(steps)
        both_ways = layers.Bidirectional(
            layers.GRU(units, return_sequences=True), merge_mode="sum", name=f"course_{number}"
        )
        steps = both_ways(layers.Dropout(dropout)(steps))
    return layers.Dropout(dropout)(_normalised()(steps))
