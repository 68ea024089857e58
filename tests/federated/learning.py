"""Networks that learn, what they learn from, and what they have to have learned, for every runtime."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from edgebench.federated.learner import LocalFit, LocalPlan, Stepper, fit
from edgebench.seeds import rng_for
from edgebench.tasks.task import Loss

BATCH = 8
STEPS = 50
PLAN = LocalPlan(epochs=10, batch_size=BATCH, learning_rate=0.05, momentum=0.9, clip_norm=0.5, proximal_mu=0.1)
"""Ten epochs of five batches, the last of each with samples that do not count; most gradients are clipped."""
_SAMPLES = 4 * BATCH + 3
_SEED = 11


class Case(NamedTuple):
    """A network that is to be learned. label: of so many samples."""

    build: Callable[[], Any]
    shape: tuple[int, ...]
    loss: Loss
    label: Callable[[np.random.Generator, int], NDArray[Any]]


def _yes_or_no(rng: np.random.Generator, count: int) -> NDArray[Any]:
    return rng.integers(0, 2, (count, 1))


def _one_of_four(rng: np.random.Generator, count: int) -> NDArray[Any]:
    return rng.integers(0, 4, (count, 1))


def _three_values(rng: np.random.Generator, count: int) -> NDArray[Any]:
    return rng.normal(size=(count, 3))


def _one_value(rng: np.random.Generator, count: int) -> NDArray[Any]:
    return rng.normal(size=(count, 1))


def lstm() -> Any:
    import keras
    from keras import layers

    inside = [layers.LSTM(8, name="course"), layers.Dense(1, activation="sigmoid", name="risk")]
    return keras.Sequential([keras.Input((12, 5)), *inside])


def dense() -> Any:
    import keras
    from keras import layers

    hidden = [layers.Dense(16, activation="tanh"), layers.Dropout(0.5), layers.Dense(8, activation="relu")]
    return keras.Sequential([keras.Input((10,)), *hidden, layers.Dense(3)])


def convolutional() -> Any:
    import keras
    from keras import layers

    return keras.Sequential(
        [
            keras.Input((8, 8, 2)),
            layers.Conv2D(6, 3, padding="same", activation="relu"),
            layers.MaxPooling2D(),
            layers.Conv2D(8, 3, strides=2, activation="relu"),
            layers.Flatten(),
            layers.Dense(4, activation="softmax"),
        ]
    )


def line() -> Any:
    """Gives w·x."""
    import keras

    return keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, use_bias=False)])


CASES = {
    "lstm": Case(lstm, (12, 5), "binary_crossentropy", _yes_or_no),
    "dense": Case(dense, (10,), "mean_squared_error", _three_values),
    "convolutional": Case(convolutional, (8, 8, 2), "sparse_categorical_crossentropy", _one_of_four),
    "line": Case(line, (1,), "mean_squared_error", _one_value),
}


def saved(name: str, directory: Path) -> Path:
    """The `.keras` file of a case."""
    import keras

    keras.utils.set_random_seed(_SEED)
    path = directory / f"{name}.keras"
    CASES[name].build().save(path)
    return path


def initial_weights(path: Path) -> list[NDArray[np.float32]]:
    """The trainable weights of a Keras file."""
    import keras

    model = keras.models.load_model(path, compile=False)
    return [np.array(keras.ops.convert_to_numpy(variable)) for variable in model.trainable_variables]


def learned(stepper: Stepper, case: Case, weights: list[NDArray[np.float32]], plan: LocalPlan = PLAN) -> LocalFit:
    """What a stepper makes of a case."""
    rng = rng_for(_SEED, "samples")
    x = rng.normal(size=(_SAMPLES, *case.shape)).astype(np.float32)
    y = case.label(rng, _SAMPLES).astype(np.float32)
    return fit(stepper, weights, x, y, plan, _SEED)


def largest_difference(found: list[NDArray[np.float32]], expected: list[NDArray[np.float32]]) -> float:
    """‖found − expected‖ / ‖expected‖ of the array in which it is largest."""
    pairs = zip(found, expected, strict=True)
    return max(float(np.linalg.norm(a - b) / np.linalg.norm(b)) for a, b in pairs)


STEPS_BY_HAND = {
    # 1·x and 3·x for w·x = 0: the loss is 5w², its slope 10w.
    "momentum": [(20.0, 1.8), (16.2, 1.52)],  # v = 20, then 10 + 18
    "proximal": [(20.0, 1.8), (16.2, 1.622)],  # 18 + (1.8 − 2)
    "clipped": [(20.0, 1.95), (19.0125, 1.875)],  # v = 5, then 2.5 + 5
    "proximal, then clipped": [(20.0, 1.82), (16.562, 1.64)],  # 20, and 18.2 + (1.82 − 2), both cut to 18
    "padded": [(4.0, 1.96)],  # the second sample does not count: w², 2w
}
"""Loss and w after each step of the case `line` from w = 2 at a learning rate of 0.01, worked out by hand."""


def steps_by_hand(stepper: Stepper) -> dict[str, list[tuple[float, float]]]:
    """What a stepper for the case `line`, with batches of 2, finds in the place of `STEPS_BY_HAND`."""
    plans = {
        "momentum": LocalPlan(epochs=1, batch_size=2, learning_rate=0.01, momentum=0.5),
        "proximal": LocalPlan(epochs=1, batch_size=2, learning_rate=0.01, proximal_mu=1.0),
        "clipped": LocalPlan(epochs=1, batch_size=2, learning_rate=0.01, momentum=0.5, clip_norm=5.0),
        "proximal, then clipped": LocalPlan(
            epochs=1, batch_size=2, learning_rate=0.01, clip_norm=18.0, proximal_mu=1.0
        ),
        "padded": LocalPlan(epochs=1, batch_size=2, learning_rate=0.01),
    }
    x, y = np.array([[1], [3]], np.float32), np.zeros((2, 1), np.float32)
    found: dict[str, list[tuple[float, float]]] = {}
    for name, plan in plans.items():
        stepper.load([np.array([[2]], np.float32)], plan)
        weight = np.array([1, 0 if name == "padded" else 1], np.float32)
        found[name] = []
        for _ in STEPS_BY_HAND[name]:
            loss = stepper.step(x, y, weight)
            found[name].append((loss, float(stepper.weights()[0].item())))
    return found
