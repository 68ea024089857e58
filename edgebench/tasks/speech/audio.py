"""Reading recordings, and making samples of one length of them."""

from __future__ import annotations

from collections.abc import Sequence
from math import gcd
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgebench.errors import DataError
from edgebench.tasks.speech.features import RATE_HZ


def read_sound(path: Path) -> NDArray[np.int16]:
    """A recording as int16 [n] at RATE_HZ, its channels averaged.

    Raises DataError for a file that is no recording, or an empty one.
    """
    import soundfile
    from scipy.signal import resample_poly

    try:
        sound, rate_hz = soundfile.read(path, dtype="float32", always_2d=True)
    except (soundfile.LibsndfileError, OSError) as error:
        raise DataError(f"{path}: no recording that can be read ({error}); download it again") from error
    if not len(sound):
        raise DataError(f"{path}: an empty recording; download it again")
    mono = sound.mean(axis=1)
    if rate_hz != RATE_HZ:
        common = gcd(rate_hz, RATE_HZ)
        mono = resample_poly(mono, RATE_HZ // common, rate_hz // common)
    return np.clip(np.round(mono * 32_768), -32_768, 32_767).astype(np.int16)


def windowed(sounds: Sequence[NDArray[np.int16]], samples: int) -> NDArray[np.int16]:
    """The sounds as [sound, samples]: silence added at the end of the shorter ones, the longer ones cut."""
    x = np.zeros((len(sounds), samples), np.int16)
    for row, sound in zip(x, sounds, strict=True):
        row[: len(sound)] = sound[:samples]
    return x


def lengths(x: NDArray[np.int16]) -> NDArray[np.int64]:
    """How many samples of each row of x [sound, samples] come before the silence at its end."""
    return np.where(x.any(axis=1), x.shape[1] - (x[:, ::-1] != 0).argmax(axis=1), 0)
