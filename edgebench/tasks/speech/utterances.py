"""Recordings of any length with their transcripts, as a data set: what the layouts of sentences have in common."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgebench.errors import DataError
from edgebench.tasks.cache import Arrays
from edgebench.tasks.speech.audio import read_sound, windowed
from edgebench.tasks.speech.features import RATE_HZ
from edgebench.tasks.speech.transcripts import encode, steps_needed, strange_character
from edgebench.tasks.splits import SplitName, group_of
from edgebench.tasks.task import Dataset, Split

LONGEST_S = 8.0
"""Longer utterances are left out: a sample has one length, and the longest decides what all of them weigh."""
STEP_S = 0.02
"""The models give characters at this interval."""
_GRAIN_S = 0.5


@dataclass(frozen=True)
class Utterance:
    """A recording. where: the file and line of its transcript, for error messages."""

    path: Path
    text: str
    speaker: str
    split: SplitName
    where: str


def parsed(utterances: Sequence[Utterance]) -> Arrays:
    """`x`, `y`, `group`, `key` and `split` (its place in SPLITS) of the utterances of at most LONGEST_S.

    A group is a speaker, and so is a key. Raises DataError with the file and the mend.
    """
    kept, sounds = [], []
    for utterance in utterances:
        strange = strange_character(utterance.text)
        if strange is not None or not utterance.text.strip():
            what = "no transcript" if strange is None else f"character {strange!r} in a transcript"
            raise DataError(f"{utterance.where}: {what}; write words of a–z, spaces and apostrophes")
        sound = read_sound(utterance.path)
        if len(sound) <= LONGEST_S * RATE_HZ:
            kept.append(utterance)
            sounds.append(sound)
    longest_s = max((len(sound) for sound in sounds), default=0) / RATE_HZ
    window_s = np.ceil(longest_s / _GRAIN_S) * _GRAIN_S
    for utterance in kept:
        if steps_needed(utterance.text) > round(window_s / STEP_S) - 1:
            raise DataError(f"{utterance.where}: too long a transcript for {window_s:g} s of sound; check it")
    speakers = sorted({utterance.speaker for utterance in kept})
    number = {speaker: n for n, speaker in enumerate(speakers)}
    return {
        "x": windowed(sounds, round(window_s * RATE_HZ)),
        "y": encode([utterance.text for utterance in kept]),
        "group": np.array([group_of(utterance.speaker) for utterance in kept], np.int64),
        "key": np.array([number[utterance.speaker] for utterance in kept], np.int64),
        "split": np.array([SPLITS.index(utterance.split) for utterance in kept], np.int64),
    }


SPLITS: tuple[SplitName, ...] = ("train", "valid", "test")


def dataset(name: str, arrays: Arrays, folder: Path, lacking: Callable[[SplitName], str]) -> Dataset:
    """The data set of `parsed` arrays. lacking: how to get a split, for the error where it has no utterance."""
    every = Split(arrays["x"], arrays["y"], arrays["group"], arrays["key"])
    splits: Mapping[SplitName, Split] = {
        split: every.rows(np.flatnonzero(arrays["split"] == place)) for place, split in enumerate(SPLITS)
    }
    for split, found in splits.items():
        if not len(found):
            raise DataError(f"{folder}: no utterance of at most {LONGEST_S:g} s in the split {split}; {lacking(split)}")
    source = f"{name}, utterances of at most {LONGEST_S:g} s"
    return Dataset(source, True, ("sound",), splits["train"], splits["valid"], splits["test"], natural_key="speaker")
