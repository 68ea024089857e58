"""Generated speech: short commands to a home, spelt in sound.

Every letter is a sound of its own: three resonances that ring at the speaker's pitch, or a hiss about a frequency, or
both, and a length. Resonances glide from letter to letter. Speakers differ in pitch, in the length of their vocal tract
(which moves all resonances), in accent (which moves each), in speed and in loudness; rooms add noise. A command has one
word or two, and a third of the pairs are said in the splits valid and test only: they have to be heard, not recalled.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
PAIRS = tuple(f"{thing} {action}" for thing in THINGS for action in ACTIONS)
PAIRS_TO_LEARN = tuple(pair for place, pair in enumerate(PAIRS) if (place + place // len(ACTIONS)) % 3)
"""The others, a third, are not in the split train; each of their words is."""
UTTERANCES_A_SPEAKER = 20
SPEAKERS = {"train": 45, "valid": 10, "test": 15}

_TRACK_HZ = 1_000
_GLIDE_S = 0.025
_GAP_S = 0.06
_LEAD_S = 0.02
_BREAK_S = 0.02
"""Between two equal letters."""
_ACCENT = 0.05
_SHARES = (1.0, 0.6, 0.3)
"""Of the resonances."""

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
_VOICE, _HISS, _CENTRE = 3, 4, 5


def generate(*, seed: int) -> Dataset:
    """The data set of this seed: utterances int16 [8000] of speakers who each stand in one split."""
    splits: dict[str, Any] = {}
    first = 0
    for name, count in SPEAKERS.items():
        speakers = range(first, first + count)
        x, texts = _spoken(speakers, seed, PAIRS_TO_LEARN if name == "train" else PAIRS)
        group = np.arange(first, first + count, dtype=np.int64).repeat(UTTERANCES_A_SPEAKER)
        splits[name] = Split(x=x, y=encode(texts), group=group, key=group)
        first += count
    return Dataset.of(splits, source="generated", real=False, features=("sound",), natural_key="speaker")


def _spoken(speakers: range, seed: int, pairs: Sequence[str]) -> tuple[NDArray[np.int16], list[str]]:
    sounds, texts = [], []
    for speaker in speakers:
        rng = rng_for(seed, "speaker", speaker)
        said = [_command(pairs, rng) for _ in range(UTTERANCES_A_SPEAKER)]
        pitch_hz, tract, speed = rng.uniform(85, 240), rng.uniform(0.88, 1.15), rng.uniform(0.9, 1.25)
        accent = {letter: np.exp(rng.normal(0, _ACCENT, 3)) * tract for letter in _SOUNDS}
        loudness, noise = _log_uniform(0.05, 0.5, rng), _log_uniform(0.003, 0.1, rng)
        tracks = np.stack([_track(text, speed, accent, rng) for text in said])
        own = np.stack([pitch_hz * rng.uniform(0.9, 1.1, len(said)), loudness * rng.uniform(0.7, 1.4, len(said))])
        sounds.append(_synthesised(tracks, own.astype(np.float32), noise, rng))
        texts += said
    return np.concatenate(sounds), texts


def _command(pairs: Sequence[str], rng: np.random.Generator) -> str:
    words = pairs[int(rng.integers(len(pairs)))].split()
    return " ".join(words if rng.random() < 0.6 else [words[rng.integers(2)]])


def _log_uniform(low: float, high: float, rng: np.random.Generator) -> float:
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def _track(
    text: str, speed: float, accent: Mapping[str, NDArray[np.float64]], rng: np.random.Generator
) -> NDArray[np.float32]:
    """Resonances, loudnesses of voice and hiss, and the centre of the hiss, each moment: [_TRACK_HZ * WINDOW_S, 6]."""
    values: list[Sequence[float]] = [_SILENCE]
    length_s = [_LEAD_S * rng.uniform(0.2, 2)]
    for place, letter in enumerate(text):
        if place and text[place - 1] == letter:
            values.append(_SILENCE)
            length_s.append(_BREAK_S)
        if letter == " ":
            values.append(_SILENCE)
            length_s.append(_GAP_S * rng.uniform(0.6, 1.4))
            continue
        *sound, usual_s = _SOUNDS[letter]
        moved = [hz * factor for hz, factor in zip(sound, accent[letter], strict=False)]
        values.append([*moved, *sound[3:]])
        length_s.append(usual_s * rng.uniform(0.8, 1.25) / speed)
    moment = np.arange(round(WINDOW_S * _TRACK_HZ)) / _TRACK_HZ
    piece = np.searchsorted(np.cumsum(length_s), moment, side="right")
    return np.array([*values, _SILENCE], np.float32)[piece]


def _synthesised(
    track: NDArray[np.float32], own: NDArray[np.float32], noise: float, rng: np.random.Generator
) -> NDArray[np.int16]:
    """Sound int16 [utterance, n] of tracks [utterance, moment, 6]; own: pitch in Hz and loudness, [2, utterance]."""
    repeat = RATE_HZ // _TRACK_HZ
    loud = track[..., _VOICE] + track[..., _HISS] > 0
    ends = (track.shape[1] - loud[:, ::-1].argmax(axis=1)) * repeat
    course = _smoothed(track, round(_GLIDE_S * _TRACK_HZ)).repeat(repeat, axis=1)
    count, total, _ = course.shape
    # The pitch falls towards the end, as it does.
    pitch_hz = own[0][:, None] * np.linspace(1.1, 0.9, total, dtype=np.float32)
    # Each pulse of the voice dies away before the next.
    pulse = np.exp(-4 * (_turns(pitch_hz) % 1))
    sound = np.zeros((count, total), np.float32)
    for resonance, share in enumerate(_SHARES):
        sound += share * np.sin(2 * np.pi * _turns(course[..., resonance]))
    sound *= pulse * course[..., _VOICE]
    hiss = _smoothed(rng.standard_normal((count, total, 1), np.float32), 9)[..., 0]
    sound += 3 * course[..., _HISS] * hiss * np.sin(2 * np.pi * _turns(course[..., _CENTRE]))
    sound += noise * rng.standard_normal((count, total), np.float32)
    # What comes after the command was not recorded.
    sound[np.arange(total) >= ends[:, None]] = 0
    return np.clip(own[1][:, None] * sound * 12_000, -32_768, 32_767).astype(np.int16)


def _turns(hz: NDArray[np.float32]) -> NDArray[np.float32]:
    """Whole turns and their fractions up to each sample of frequencies [row, n]."""
    return np.cumsum(hz, axis=1, dtype=np.float32) / np.float32(RATE_HZ)


def _smoothed(values: NDArray[np.float32], width: int) -> NDArray[np.float32]:
    """A moving average over axis 1 of [row, n, column]."""
    padded = np.pad(values, ((0, 0), (width // 2 + 1, width - width // 2 - 1), (0, 0)), mode="edge")
    total = np.cumsum(padded, axis=1, dtype=np.float64)
    return ((total[:, width:] - total[:, :-width]) / width).astype(np.float32)
