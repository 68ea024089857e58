"""Generated commands: seeded, speakers apart, and a third of the pairs of words never heard in training."""

from __future__ import annotations

import numpy as np
import pytest

from edgebench.tasks.speech.baseline import fit_baseline
from edgebench.tasks.speech.generator import ACTIONS, PAIRS, PAIRS_TO_LEARN, THINGS, generate
from edgebench.tasks.speech.transcripts import texts_of
from edgebench.tasks.task import Dataset, Split


@pytest.fixture(scope="module")
def data() -> Dataset:
    return generate(seed=1)


def _splits(data: Dataset) -> tuple[Split, Split, Split]:
    return data.train, data.valid, data.test


def test_generated_commands_say_what_they_are(data: Dataset) -> None:
    assert (data.source, data.real, data.spec.dtype, data.spec.shape) == ("generated", False, "int16", (8_000,))
    assert data.natural_key == "speaker"
    assert [len(split) for split in (data.train, data.valid, data.test)] == [900, 200, 300]
    groups = [set(split.group) for split in (data.train, data.valid, data.test)]
    assert [len(group) for group in groups] == [45, 10, 15]
    assert len(groups[0] | groups[1] | groups[2]) == 70
    assert np.abs(data.train.x.astype(int)).max(axis=1).min() > 200


def test_a_seed_repeats_its_commands_and_another_gives_others(data: Dataset) -> None:
    again, other = generate(seed=1), generate(seed=2)
    for split, repeated, different in zip(*(_splits(each) for each in (data, again, other)), strict=True):
        assert np.array_equal(repeated.x, split.x)
        assert np.array_equal(repeated.y, split.y)
        assert not np.array_equal(different.x, split.x)


def test_a_third_of_the_pairs_are_said_after_training_only(data: Dataset) -> None:
    assert (len(PAIRS), len(PAIRS_TO_LEARN)) == (36, 24)
    said, later = ({text for text in texts_of(split.y) if " " in text} for split in (data.train, data.test))
    assert said == set(PAIRS_TO_LEARN)
    assert later == set(PAIRS)
    # But every word is heard.
    assert {word for pair in PAIRS_TO_LEARN for word in pair.split()} == {*THINGS, *ACTIONS}


def test_a_model_that_recalls_transcripts_cannot_solve_it(data: Dataset) -> None:
    found = fit_baseline(data)
    assert found.name == "support vector machine on cepstra of 10 parts of the sound"
    assert 0.6 < found.metrics["word_accuracy"] < 0.93
