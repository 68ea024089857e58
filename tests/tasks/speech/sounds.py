"""Small made-up recordings."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray


def tone(hz: float, length_s: float, rate_hz: int = 8_000) -> NDArray[np.float64]:
    """A sine of half the full scale."""
    return 0.5 * np.sin(2 * np.pi * hz * np.arange(round(length_s * rate_hz)) / rate_hz)


def write(path: Path, sound: NDArray[np.float64], rate_hz: int = 8_000) -> None:
    """A 16-bit file; its name tells WAV or FLAC."""
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, sound, rate_hz, subtype="PCM_16")
