"""A task of one's own by `Classifier`: what it is given wrongly is told before anything is learned from it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import pytest

from edgebench.errors import TaskError
from edgebench.tasks.classifier import Classifier
from edgebench.tasks.task import Dataset, FitOptions, Size
from tests.cloud.tiny import TASK

SOUND = TASK.load(None, seed=0)
MEND = "keras.Input((8, 3), dtype='float32'), or other x"


def network(inputs: int, outputs: int) -> keras.Model:
    return keras.Sequential(
        [keras.Input((inputs, 3)), keras.layers.Flatten(), keras.layers.Dense(outputs, activation="sigmoid")]
    )


class Own(Classifier):
    name, classes, epochs = "own:TASK", 2, 1

    def __init__(self, build: Callable[[], keras.Model], score: Any = None) -> None:
        self._build, self._score = build, score

    def load(self, data: Path | None, *, seed: int) -> Dataset:
        del data, seed
        return SOUND

    def build(self, size: Size, dataset: Dataset) -> keras.Model:
        del size, dataset
        return self._build()

    def score(self, *given: Any) -> Any:
        return super().score(*given) if self._score is None else self._score(*given)


def test_a_sound_one_learns() -> None:
    model = Own(lambda: network(8, 1)).fit("light", SOUND, FitOptions(seed=1, examples=40))
    assert isinstance(model, keras.Model)
    assert model.output_shape == (None, 1)


def test_a_model_may_take_its_inputs_from_the_first_samples() -> None:
    unbuilt = keras.Sequential([keras.layers.Flatten(), keras.layers.Dense(1, activation="sigmoid")])
    assert Own(lambda: unbuilt).fit("light", SOUND, FitOptions(seed=1, examples=40)) is unbuilt


@pytest.mark.parametrize(
    ("inputs", "outputs", "said"),
    [
        (9, 1, f"a model of float32 [9, 3], samples are float32 [8, 3] ({MEND})"),
        (8, 3, "a model of 3 outputs, where 2 classes take 1"),
    ],
)
def test_a_model_that_does_not_fit_is_told(inputs: int, outputs: int, said: str) -> None:
    with pytest.raises(TaskError) as caught:
        Own(lambda: network(inputs, outputs)).fit("light", SOUND, FitOptions(seed=1))
    assert str(caught.value) == f"task 'own:TASK': build gave {said}"


def test_a_label_that_is_no_class_is_told() -> None:
    y = SOUND.valid.y.copy()
    y[3] = 7
    wrong = replace(SOUND, valid=replace(SOUND.valid, y=y))
    with pytest.raises(TaskError) as caught:
        Own(lambda: network(8, 1)).fit("light", wrong, FitOptions(seed=1))
    assert str(caught.value) == "task 'own:TASK': load gave a label 7 in valid, where 2 classes are 0 to 1"


def test_a_score_that_gives_nothing_is_told_as_such() -> None:
    with pytest.raises(TaskError) as caught:
        Own(lambda: network(8, 1), score=lambda *_: None).fit("light", SOUND, FitOptions(seed=1, examples=40))
    assert str(caught.value) == "task 'own:TASK': score gave None, not a number for each metric, by name"
