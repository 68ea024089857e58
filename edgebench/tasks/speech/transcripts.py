"""Characters and their numbers, the decoding of what a model gives, and word and character errors."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgebench.tasks.metrics import ratio_intervals

CHARACTERS = " 'abcdefghijklmnopqrstuvwxyz"
BLANK = 0
"""The number of what CTC puts between characters; that of the first character is 1."""
ALPHABET = len(CHARACTERS) + 1
PADDING = -1

_NUMBER = {character: number for number, character in enumerate(CHARACTERS, start=1)}


def strange_character(text: str) -> str | None:
    """The first character of a transcript that has no number."""
    return next((character for character in text if character not in _NUMBER), None)


def steps_needed(text: str) -> int:
    """The least steps in which CTC can say a text: one for each character, and one between two that are equal."""
    return len(text) + sum(a == b for a, b in pairwise(text))


def encode(texts: Sequence[str]) -> NDArray[np.float32]:
    """Labels float32 [sample, character] of transcripts, padded with −1."""
    labels = np.full((len(texts), max((len(text) for text in texts), default=0)), PADDING, np.float32)
    for row, text in zip(labels, texts, strict=True):
        row[: len(text)] = [_NUMBER[character] for character in text]
    return labels


def texts_of(labels: NDArray[np.floating[Any]] | NDArray[np.integer[Any]]) -> list[str]:
    """The transcripts of labels [sample, character]; numbers below 1 are left out."""
    return ["".join(CHARACTERS[number - 1] for number in row if number > BLANK) for row in labels.astype(int).tolist()]


def greedy(outputs: NDArray[np.floating[Any]]) -> list[str]:
    """The texts of outputs [sample, step * ALPHABET]: the likeliest character a step, repeats and blanks gone."""
    likeliest = outputs.reshape(len(outputs), outputs.shape[1] // ALPHABET, ALPHABET).argmax(axis=2)
    repeated = np.zeros_like(likeliest, dtype=bool)
    repeated[:, 1:] = likeliest[:, 1:] == likeliest[:, :-1]
    return texts_of(np.where(repeated, BLANK, likeliest))


def speech_metrics(texts: Sequence[str], labels: NDArray[np.float32]) -> dict[str, float]:
    """`word_accuracy` = 1 − WER, `wer` and `cer` of decoded texts against labels [sample, character].

    Edits summed over all samples / words (characters) of all references; NaN where these have none.
    """
    ratios = _ratios(texts, labels)
    return {
        name: float(above.sum() / below.sum()) if below.sum() else float("nan")
        for name, (above, below) in ratios.items()
    }


def speech_intervals(
    texts: Sequence[str], labels: NDArray[np.float32], *, seed: int, group: NDArray[np.int64] | None
) -> dict[str, tuple[float, float]]:
    """95 % percentile bootstrap intervals of `speech_metrics`; with `group` [sample] whole groups are drawn."""
    return ratio_intervals(_ratios(texts, labels), seed=seed, group=group)


def _ratios(
    texts: Sequence[str], labels: NDArray[np.float32]
) -> dict[str, tuple[NDArray[np.float64], NDArray[np.float64]]]:
    if len(texts) != len(labels):
        raise ValueError(f"{len(texts)} outputs for {len(labels)} labels")
    said, meant = [text.split() for text in texts], [text.split() for text in texts_of(labels)]
    word_edits = edits(said, meant)
    letters = [[" ".join(words) for words in each] for each in (said, meant)]
    words = np.array([len(each) for each in meant], np.float64)
    characters = np.array([len(each) for each in letters[1]], np.float64)
    return {
        "word_accuracy": (words - word_edits, words),
        "wer": (word_edits, words),
        "cer": (edits(letters[0], letters[1]), characters),
    }


def edits(said: Sequence[Sequence[Hashable]], meant: Sequence[Sequence[Hashable]]) -> NDArray[np.float64]:
    """Levenshtein distances [sample] of pairs of sequences."""
    from rapidfuzz.distance import Levenshtein

    return np.array([Levenshtein.distance(*pair) for pair in zip(said, meant, strict=True)], np.float64)
