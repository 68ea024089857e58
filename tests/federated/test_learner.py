"""The training loop that all runtimes share."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from edgebench.errors import ModelError
from edgebench.federated.learner import LocalPlan, Weights, check_weights, fit, local_batches, unique_names


class Counting:
    """A stepper that only writes down what it is given. Its loss is the mean of x over the samples that count."""

    names = ("total",)

    def __init__(self) -> None:
        self.seen: list[tuple[NDArray[Any], NDArray[Any], NDArray[Any]]] = []
        self.total = 0.0

    def load(self, weights: Weights, plan: LocalPlan) -> None:
        self.total = float(weights[0])

    def step(self, x: NDArray[Any], y: NDArray[np.float32], weight: NDArray[np.float32]) -> float:
        self.seen.append((x, y, weight))
        self.total += float((weight * x).sum())
        return float((weight * x).sum() / weight.sum())

    def weights(self) -> list[NDArray[np.float32]]:
        return [np.array(self.total, np.float32)]


class Lazy:
    """Rows that keep count of how many were read at once."""

    def __init__(self, array: NDArray[Any]) -> None:
        self.array = array
        self.largest = 0

    def __len__(self) -> int:
        return len(self.array)

    def __getitem__(self, rows: NDArray[np.int64], /) -> NDArray[Any]:
        assert rows.dtype == np.int64
        self.largest = max(self.largest, len(rows))
        return self.array[rows]


def plan(epochs: int, batch_size: int) -> LocalPlan:
    return LocalPlan(epochs=epochs, batch_size=batch_size, learning_rate=0.1)


def test_an_epoch_shows_each_sample_once_and_fills_the_last_batch_with_samples_that_do_not_count() -> None:
    batches = list(local_batches(5, 2, epoch=1, seed=3))
    assert [rows.shape for rows, _ in batches] == [(2,)] * 3
    assert [weight.tolist() for _, weight in batches] == [[1, 1], [1, 1], [1, 0]]
    counted = np.concatenate([rows[weight > 0] for rows, weight in batches])
    assert sorted(counted.tolist()) == [0, 1, 2, 3, 4]
    assert all(0 <= row < 5 for rows, _ in batches for row in rows)


def test_a_client_with_fewer_samples_than_a_batch_has_one_batch() -> None:
    ((rows, weight),) = local_batches(2, 5, epoch=1, seed=3)
    assert rows.shape == (5,)
    assert weight.tolist() == [1, 1, 0, 0, 0]


def test_the_order_hangs_on_the_seed_and_the_epoch() -> None:
    def order(epoch: int, seed: int) -> list[int]:
        return [int(row) for rows, _ in local_batches(50, 10, epoch, seed) for row in rows]

    assert order(1, 3) == order(1, 3)
    assert order(1, 3) != order(2, 3)
    assert order(1, 3) != order(1, 4)


def test_the_loss_is_the_mean_over_the_samples_of_the_last_epoch() -> None:
    stepper = Counting()
    x = np.array([1, 2, 3, 4, 10], np.float32)
    done = fit(stepper, [np.array(100, np.float32)], x, x[:, None], plan(epochs=2, batch_size=2), seed=1)
    assert (done.steps, done.examples) == (6, 5)
    assert done.loss == pytest.approx(4.0)  # (1 + 2 + 3 + 4 + 10) / 5
    assert done.weights[0] == 140  # each sample once an epoch: 100 + 2 · 20
    assert all(np.array_equal(x, y[:, 0]) for x, y, _ in stepper.seen)


def test_samples_are_read_a_batch_at_a_time(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.arange(7, dtype=np.float32))
    x = Lazy(np.load(tmp_path / "x.npy", mmap_mode="r"))
    done = fit(Counting(), [np.array(0, np.float32)], x, Lazy(np.zeros((7, 1))), plan(1, 3), seed=1)
    assert done.weights[0] == 21
    assert x.largest == 3


def test_without_samples_nothing_is_learned() -> None:
    done = fit(Counting(), [np.array(5, np.float32)], np.zeros(0), np.zeros((0, 1)), plan(3, 2), seed=1)
    assert (done.steps, done.examples) == (0, 0)
    assert done.weights[0] == 5
    assert math.isnan(done.loss)


def test_names_that_come_again_are_told_apart() -> None:
    assert unique_names(["a/kernel", "b/kernel", "a/kernel", "a/kernel"]) == (
        "a/kernel",
        "b/kernel",
        "a/kernel#2",
        "a/kernel#3",
    )


def test_weights_of_another_model_are_refused() -> None:
    names, shapes = ("kernel", "bias"), ((2, 3), (3,))
    kernel, bias = np.zeros((2, 3), np.float32), np.zeros(3, np.float32)
    check_weights([kernel, bias], names, shapes)
    with pytest.raises(ModelError, match="1 arrays of weights, where the model has 2"):
        check_weights([kernel], names, shapes)
    with pytest.raises(ModelError, match=r"weights 'bias' are \[4\], where the model has \[3\]"):
        check_weights([kernel, np.zeros(4, np.float32)], names, shapes)
