"""Characters, CTC decoding and edit distances, against numbers worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from edgebench.clock import thread_cpu_s
from edgebench.seeds import rng_for
from edgebench.tasks import task_named
from edgebench.tasks.speech.transcripts import (
    ALPHABET,
    CHARACTERS,
    edits,
    encode,
    greedy,
    speech_intervals,
    speech_metrics,
    steps_needed,
    strange_character,
    texts_of,
)

TASK = task_named("speech-recognition")


def _saying(*said: str) -> NDArray[np.float32]:
    """Outputs whose likeliest characters are these, a step each; `_` is the blank."""
    steps = max(map(len, said))
    outputs = np.full((len(said), steps, ALPHABET), -9.0, np.float32)
    for row, text in enumerate(said):
        for step, character in enumerate(text.ljust(steps, "_")):
            outputs[row, step, 0 if character == "_" else CHARACTERS.index(character) + 1] = -0.1
    return outputs.reshape(len(said), -1)


def test_labels_are_numbers_of_characters_padded_with_minus_one() -> None:
    labels = encode(["a b", "don't"])
    assert labels.dtype == np.float32
    assert labels.tolist() == [[3, 1, 4, -1, -1], [6, 17, 16, 2, 22]]
    assert texts_of(labels) == ["a b", "don't"]


def test_greedy_decoding_drops_repeats_then_blanks() -> None:
    assert greedy(_saying("__oo_ff_f__", "tthhree_e", "_", "on_ _up")) == ["off", "three", "", "on up"]


def test_two_equal_letters_need_a_step_between_them() -> None:
    assert [steps_needed(text) for text in ("", "nine", "three", "off off")] == [0, 4, 6, 9]


def test_a_character_without_a_number_is_found() -> None:
    assert strange_character("it's ok") is None
    assert strange_character("room 2") == "2"


@pytest.mark.parametrize(
    ("said", "meant", "distance"),
    [("", "", 0), ("", "abc", 3), ("abc", "", 3), ("kitten", "sitting", 3), ("flaw", "lawn", 2), ("abc", "abc", 0)],
)
def test_distances_are_those_of_levenshtein(said: str, meant: str, distance: int) -> None:
    among = [(said, meant), ("aaaaaaaaaa", "b"), ("", "zz")]
    found = edits([s for s, _ in among], [m for _, m in among])
    assert found.tolist() == [distance, 10, 2]


def test_distances_agree_with_the_textbook_recursion() -> None:
    rng = rng_for(0, "edits")
    said, meant = ([rng.integers(0, 4, rng.integers(0, 9)).tolist() for _ in range(200)] for _ in range(2))
    assert edits(said, meant).tolist() == [_textbook(s, m) for s, m in zip(said, meant, strict=True)]


def _textbook(said: list[int], meant: list[int]) -> int:
    row = list(range(len(said) + 1))
    for i, wanted in enumerate(meant, start=1):
        before, row = row, [i]
        for j, got in enumerate(said, start=1):
            row.append(min(before[j] + 1, row[j - 1] + 1, before[j - 1] + (got != wanted)))
    return row[-1]


def test_errors_are_summed_over_the_set_and_not_averaged_over_utterances() -> None:
    # Words: "lamp" for "light on" is 2 edits of 2, "door up" 0 of 2, "dim it now" for "dim" 2 of 1: 4 of 5.
    # Characters: "lamp" for "light on" is l kept, amp for igh, "t on" lost = 7 of 8; 0 of 7; " it now" added = 7 of 3.
    labels = encode(["light on", "door up", "dim"])
    found = TASK.score(_saying("lamp", "do_or up", "dim it now"), labels)
    assert found == pytest.approx({"word_accuracy": 0.2, "wer": 0.8, "cer": 14 / 18})


def test_word_accuracy_falls_below_zero_with_more_errors_than_words() -> None:
    assert TASK.score(_saying("a b c"), encode(["up"]))["word_accuracy"] == -2.0


def test_spaces_at_the_ends_and_doubled_ones_are_no_errors() -> None:
    assert TASK.score(_saying(" on _  up "), encode(["on up"])) == {"word_accuracy": 1.0, "wer": 0.0, "cer": 0.0}


def test_no_samples_have_no_metrics() -> None:
    found = TASK.score(np.zeros((0, 2 * ALPHABET), np.float32), np.zeros((0, 3), np.float32))
    assert sorted(found) == ["cer", "wer", "word_accuracy"]
    assert np.isnan(list(found.values())).all()


def test_intervals_draw_whole_groups() -> None:
    # One speaker is always understood, one never: of two speakers drawn, none, one or both are right.
    texts = ["on"] * 10 + ["off"] * 10
    group = np.repeat([7, 8], 10)
    outputs, labels = _saying(*["on"] * 20), encode(texts)
    assert TASK.intervals(outputs, labels, seed=1, group=group)["word_accuracy"] == (0.0, 1.0)
    low, high = TASK.intervals(outputs, labels, seed=1)["word_accuracy"]
    assert 0.2 < low < 0.5 < high < 0.8
    assert speech_intervals(["on"] * 20, labels, seed=1, group=group)["wer"] == (0.0, 1.0)


def test_fifteen_hundred_utterances_are_scored_in_a_second() -> None:
    rng = rng_for(1, "long")
    texts = ["".join(np.array(list(CHARACTERS))[rng.integers(0, 28, 100)]) for _ in range(1_500)]
    start_s = thread_cpu_s()
    speech_metrics(texts[::-1], encode(texts))
    assert thread_cpu_s() - start_s < 5  # 0.6 s, and others may have the cores meanwhile
