"""Generated speech: short commands to a home, spelt in sound.

Every letter is a sound of its own: three resonances that ring at the speaker's pitch, or a hiss about a frequency, or
both, and a length. Resonances glide from letter to letter. Speakers differ in pitch, in the length of their vocal tract
(which moves all resonances), in speed and in loudness; rooms add noise. A command has one or two words.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgebench.seeds import rng_for
from edgebench.tasks.speech.features import RATE_HZ
from edgebench.tasks.speech.transcripts import encode
from edgebench.tasks.task import Dataset, Split

WINDOW_S = 1.0
THINGS = ("light", "lamp", "door", "lock", "heat", "fan")
ACTIONS = ("on", "off", "up", "down", "open", "dim")
UTTERANCES_A_SPEAKER = 20
SPEAKERS = {"train": 45, "valid": 10, "test": 15}

_GLIDE_S = 0.025
_GAP_S = 0.06
_LEAD_S = 0.02

# Letter: three resonances in Hz, loudness of voice, loudness of hiss, centre of the hiss in Hz, length in s.
_SOUNDS: dict[str, tuple[float, float, float, float, float, float, float]] = {
    "a": (730, 1_090, 2_440, 1.0, 0.0, 0, 0.080),
    "c": (400, 1_800, 2_600, 0.0, 0.5, 1_500, 0.050),
    "d": (300, 1_700, 2_600, 0.4, 0.2, 2_800, 0.050),
    "e": (530, 1_840, 2_480, 1.0, 0.0, 0, 0.075),
    "f": (400, 1_100, 2_100, 0.0, 0.4, 2_300, 0.065),
    "g": (300, 2_100, 2_500, 0.5, 0.1, 1_700, 0.050),
    "h": (500, 1_500, 2_500, 0.1, 0.3, 1_100, 0.045),
    "i": (390, 1_990, 2_550, 1.0, 0.0, 0, 0.070),
    "k": (400, 1_900, 2_500, 0.0, 0.6, 1_900, 0.050),
    "l": (360, 1_300, 2_900, 0.6, 0.0, 0, 0.060),
    "m": (250, 1_000, 2_200, 0.5, 0.0, 0, 0.065),
    "n": (250, 1_450, 2_400, 0.5, 0.0, 0, 0.060),
    "o": (570, 840, 2_410, 1.0, 0.0, 0, 0.080),
    "p": (400, 900, 2_200, 0.0, 0.6, 700, 0.045),
    "r": (420, 1_300, 1_600, 0.7, 0.0, 0, 0.060),
    "t": (400, 1_700, 2_600, 0.0, 0.6, 3_100, 0.045),
    "u": (300, 870, 2_240, 1.0, 0.0, 0, 0.075),
    "w": (300, 650, 2_200, 0.6, 0.0, 0, 0.060),
}
_SILENCE = (500.0, 1_500.0, 2_500.0, 0.0, 0.0, 1_500.0)
_VOICE, _HISS = 3, 4


def generate(*, seed: int) -> Dataset:
    """The data set of this seed: utterances int16 [8000] of speakers who each stand in one split."""
    splits: dict[str, Any] = {}
    first = 0
    for name, count in SPEAKERS.items():
        speakers = np.arange(first, first + count, dtype=np.int64).repeat(UTTERANCES_A_SPEAKER)
        x, texts = _spoken(speakers, seed)
        splits[name] = Split(x=x, y=encode(texts), group=speakers, key=speakers)
        first += count
    return Dataset(source="generated", real=False, features=("sound",), natural_key="speaker", **splits)


def _spoken(speakers: NDArray[np.int64], seed: int) -> tuple[NDArray[np.int16], list[str]]:
    texts: list[str] = []
    tracks, traits = [], []
    for speaker in np.unique(speakers).tolist():
        rng = rng_for(seed, "speaker", speaker)
        pitch_hz, tract, speed = rng.uniform(85, 240), rng.uniform(0.88, 1.15), rng.uniform(0.9, 1.25)
        loudness, noise = np.exp(rng.uniform(np.log(0.05), np.log(0.5))), np.exp(rng.uniform(np.log(0.003), np.log(0.05)))
        for _ in range(UTTERANCES_A_SPEAKER):
            text = _command(rng)
            texts.append(text)
            tracks.append(_track(text, speed, tract, rng))
            traits.append((pitch_hz * rng.uniform(0.9, 1.1), loudness * rng.uniform(0.7, 1.4), noise))
    return _synthesised(np.stack(tracks), np.array(traits), rng_for(seed, "room", int(speakers[0]))), texts


def _command(rng: np.random.Generator) -> str:
    words = [rng.choice(THINGS), rng.choice(ACTIONS)]
    return " ".join(words if rng.random() < 0.5 else [words[rng.integers(2)]])


def _track(text: str, speed: float, tract: float, rng: np.random.Generator) -> NDArray[np.float32]:
    """Resonances, loudnesses and centre of hiss of each moment: [n, 6]."""
    pieces = [(_SILENCE, _LEAD_S * rng.uniform(0.2, 2))]
    for place, letter in enumerate(text):
        if letter == " ":
            pieces.append((_SILENCE, _GAP_S * rng.uniform(0.6, 1.4)))
            continue
        if place and text[place - 1] == letter:
            pieces.append((_SILENCE, 0.02))
        *sound, length_s = _SOUNDS[letter]
        pieces.append((tuple(sound), length_s * rng.uniform(0.8, 1.25) / speed))  # type: ignore[arg-type]
    samples = [round(length_s * RATE_HZ) for _, length_s in pieces]
    total = round(WINDOW_S * RATE_HZ)
    values = np.array([sound for sound, _ in pieces], np.float32)
    values[:, [0, 1, 2, 5]] *= tract
    values = np.concatenate([values, [_SILENCE]]).astype(np.float32)
    return values[np.minimum(np.searchsorted(np.cumsum(samples), np.arange(total), side="right"), len(pieces))]


def _synthesised(
    track: NDArray[np.float32], traits: NDArray[np.float64], rng: np.random.Generator
) -> NDArray[np.int16]:
    """Sound int16 [utterance, n] of tracks [utterance, n, 6]; traits: pitch in Hz, loudness, noise."""
    count, total, _ = track.shape
    ends = (track[..., _VOICE] + track[..., _HISS] > 0)[:, ::-1].argmax(axis=1)
    smooth = _smoothed(track, round(_GLIDE_S * RATE_HZ))
    pitch_hz, loudness, noise = (traits[:, i, None].astype(np.float32) for i in range(3))
    # The pitch falls towards the end, as it does.
    phase = np.cumsum(pitch_hz * np.linspace(1.1, 0.9, total, dtype=np.float32), axis=1) / RATE_HZ
    # Each pulse of the voice dies away before the next.
    pulse = np.exp(-4 * (phase % 1), dtype=np.float32)
    sound = np.zeros((count, total), np.float32)
    for formant, share in ((0, 1.0), (1, 0.6), (2, 0.3)):
        sound += share * np.sin(2 * np.pi * np.cumsum(smooth[..., formant], axis=1) / RATE_HZ, dtype=np.float32)
    sound *= pulse * smooth[..., _VOICE]
    hiss = _smoothed(rng.normal(0, 3, (count, total, 1)).astype(np.float32), 9)[..., 0]
    carrier = np.sin(2 * np.pi * np.cumsum(smooth[..., 5], axis=1) / RATE_HZ, dtype=np.float32)
    sound += smooth[..., _HISS] * hiss * carrier
    sound = loudness * (sound + noise * rng.normal(0, 1, sound.shape).astype(np.float32))
    # What comes after the command was not recorded.
    sound[np.arange(total) >= total - np.maximum(ends - round(_LEAD_S * RATE_HZ), 0)[:, None]] = 0
    return np.clip(sound * 12_000, -32_768, 32_767).astype(np.int16)


def _smoothed(values: NDArray[np.float32], width: int) -> NDArray[np.float32]:
    """A moving average over axis 1 of [row, n, column]."""
    padded = np.pad(values, ((0, 0), (width // 2 + 1, width - width // 2 - 1), (0, 0)), mode="edge")
    total = np.cumsum(padded, axis=1, dtype=np.float64)
    return ((total[:, width:] - total[:, :-width]) / width).astype(np.float32)
