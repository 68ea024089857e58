"""What a user's task gives is checked where it comes in, and told in one line that names the task."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import keras
import numpy as np
import pytest
import torch

from edgebench.errors import DataError, TaskError
from edgebench.tasks import seam
from edgebench.tasks.task import Dataset, Split
from tests.cloud.tiny import NAME, TASK

SOUND = TASK.load(None, seed=0)


class _Gives:
    """A task that gives this, or raises it."""

    def __init__(self, what: Any) -> None:
        self._what = what

    def load(self, _data: object, *, seed: int) -> Any:
        del seed
        return self._given()

    def fit(self, *_: object, **__: object) -> Any:
        return self._given()

    def _given(self) -> Any:
        if isinstance(self._what, Exception):
            raise self._what
        return self._what


def changed(part: str, **changes: Any) -> Dataset:
    split: Split = getattr(SOUND, part)
    instead: Any = {part: replace(split, **changes)}
    return replace(SOUND, **instead)


def gives(what: Any) -> Any:
    return _Gives(what)


def network(*shape: int | None, outputs: int = 1) -> keras.Model:
    inputs = keras.Input(shape)
    return keras.Model(inputs, keras.layers.Dense(outputs)(keras.layers.Flatten()(inputs)))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (None, "load gave None, not a Dataset"),
        (changed("train", y=SOUND.train.y[1:]), "load gave train.y of 299 samples, where x has 300"),
        (changed("valid", y=SOUND.valid.y[:, 0]), "load gave valid.y of float32 [60], not [sample, label]"),
        (changed("test", y=SOUND.test.y.astype(np.float64)), "load gave test.y of float64 [70, 1], not float32"),
        (changed("test", x=SOUND.test.x[:, 1:]), "load gave test.x of float32 [70, 7, 3] beside train.x of float32 ["),
        (changed("valid", group=None), "load gave valid.group, None, not a NumPy array"),
        (changed("valid", x=SOUND.valid.x[:0]), "load gave valid.x without a sample"),
        (KeyError("wear"), "load failed: KeyError: 'wear' ("),
    ],
)
def test_a_dataset_is_checked(given: Any, said: str) -> None:
    with pytest.raises(TaskError) as caught:
        seam.load(NAME, gives(given), None, seed=0)
    assert str(caught.value).startswith(f"task '{NAME}': {said}")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (lambda: None, "fit gave None, neither a Keras model nor a torch module"),
        (lambda: "a model", "fit gave a str, neither"),
        (lambda: network(9, 3), "fit gave a model of [9, 3], samples are [8, 3]"),
        (lambda: keras.Sequential([keras.Input((8, 3)), keras.layers.LSTM(2, return_sequences=True)]), "fit gave a mo"),
        (lambda: ValueError("cannot\nlearn"), "fit failed: ValueError: cannot learn ("),
    ],
)
def test_a_model_is_checked(given: Callable[[], Any], said: str) -> None:
    with pytest.raises(TaskError) as caught:
        fit(NAME, given())
    assert str(caught.value).startswith(f"task '{NAME}': {said}")
    assert "\n" not in str(caught.value)


def fit(name: str, given: Any) -> Any:
    return seam.fit(name, gives(given), "light", SOUND, seed=0, epochs=1, examples=None, progress=None)


def test_what_is_sound_passes() -> None:
    assert seam.load(NAME, gives(SOUND), None, seed=0) is SOUND
    for model in (network(8, 3), network(8, 3, outputs=2), torch.nn.Linear(3, 1)):
        assert fit(NAME, model) is model


def test_a_mistake_that_the_task_tells_itself_stays_as_it_is() -> None:
    with pytest.raises(DataError, match=r"^no such folder$"):
        seam.load(NAME, gives(DataError("no such folder")), None, seed=0)


def test_a_mistake_of_a_built_in_task_is_ours_and_keeps_its_traceback() -> None:
    with pytest.raises(ZeroDivisionError):
        seam.load("icu-death", gives(ZeroDivisionError()), None, seed=0)
