"""The best weights on held-out data are kept, whatever comes after them."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from edgebench.tasks.fitting import EarlyStopping, Judged, keep_best
from edgebench.tasks.task import Epoch


def kept_epoch(qualities: list[float], how: EarlyStopping, merits: list[float] | None = None) -> tuple[int, list[int]]:
    """The epoch whose weights stay, and the epochs that were trained; epoch n makes the weight n."""
    layer = keras.layers.Dense(1, use_bias=False)
    model = keras.Sequential([keras.Input((1,)), layer])
    told: list[Epoch] = []

    def train_epoch(epoch: int) -> float:
        layer.set_weights([np.full((1, 1), epoch, np.float32)])
        return epoch / 10

    def quality() -> float | Judged:
        shown = qualities[epoch_of_weights() - 1]
        return shown if merits is None else Judged(shown, merits[epoch_of_weights() - 1])

    def epoch_of_weights() -> int:
        return int(layer.get_weights()[0][0, 0])

    def picture() -> bytes:
        return str(epoch_of_weights()).encode()

    keep_best(model, how, train_epoch=train_epoch, quality=quality, progress=told.append, picture=picture)
    assert [each.quality for each in told] == pytest.approx(qualities[: len(told)], nan_ok=True)
    # The last picture is of the weights that stay.
    assert told[-1].picture == picture()
    return epoch_of_weights(), [each.epoch for each in told]


def test_the_best_epoch_is_kept() -> None:
    assert kept_epoch([0.1, 0.9, 0.5, 0.6], EarlyStopping(epochs=4, patience=3)) == (2, [1, 2, 3, 4])


def test_what_is_best_may_be_told_apart_from_the_quality_that_is_shown() -> None:
    assert kept_epoch([0.9, 0.8, 0.8], EarlyStopping(epochs=3, patience=3), merits=[0.5, 0.7, 0.6]) == (2, [1, 2, 3])


def test_training_stops_when_nothing_better_has_come_for_long() -> None:
    assert kept_epoch([0.5, 0.4, 0.3, 0.9], EarlyStopping(epochs=4, patience=2)) == (1, [1, 2, 3])


def test_before_it_has_settled_nothing_is_kept() -> None:
    assert kept_epoch([0.9, 0.1, 0.2, 0.1], EarlyStopping(epochs=4, settle=2, patience=4)) == (3, [1, 2, 3, 4])


def test_a_training_shorter_than_that_keeps_its_last_epoch() -> None:
    assert kept_epoch([0.9, 0.1], EarlyStopping(epochs=2, settle=5, patience=4)) == (2, [1, 2])


def test_where_quality_is_undefined_the_latest_weights_stay() -> None:
    nan = float("nan")
    assert kept_epoch([nan, nan, nan], EarlyStopping(epochs=3)) == (3, [1, 2, 3])


def test_no_epoch_leaves_the_model_as_it_was() -> None:
    layer = keras.layers.Dense(1, kernel_initializer="ones")
    model = keras.Sequential([keras.Input((1,)), layer])
    keep_best(model, EarlyStopping(epochs=0), train_epoch=lambda _: 0.0, quality=lambda: 0.0, progress=None)
    assert layer.get_weights()[0][0, 0] == 1.0
