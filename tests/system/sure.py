"""A task whose small model is sure of half its samples, and right about them; of the rest it knows nothing."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edgebench.seeds import rng_for
from edgebench.tasks.classifier import Classifier
from edgebench.tasks.task import Dataset, FitOptions, ModelInfo, Size, Split

if TYPE_CHECKING:
    import keras

_STEPS, _FEATURES = 48, 76


class SureTask(Classifier):
    """Is the second value of a sample above zero? The first one tells for half the samples, by a wide margin."""

    name = "tests.system.sure:TASK"
    classes = 2
    models: Mapping[Size, ModelInfo] = {"light": ModelInfo("the first value"), "heavy": ModelInfo("the second value")}

    def load(self, data: Path | None, *, seed: int) -> Dataset:
        train, valid, test = (_split(name, first, seed) for first, name in enumerate(("train", "valid", "test")))
        return Dataset(source="generated", real=False, features=(), train=train, valid=valid, test=test)

    def build(self, size: Size, dataset: Dataset) -> keras.Model:
        import keras

        decide = keras.layers.Dense(1, activation="sigmoid")
        model = keras.Sequential([keras.Input((_STEPS, _FEATURES), name="sample"), keras.layers.Flatten(), decide])
        weights = np.zeros((_STEPS * _FEATURES, 1), np.float32)
        weights[0 if size == "light" else 1] = 1.0
        decide.set_weights([weights, np.zeros(1, np.float32)])
        return model

    def fit(self, size: Size, dataset: Dataset, options: FitOptions) -> keras.Model:
        return self.build(size, dataset)


def _split(name: str, first: int, seed: int, samples: int = 200) -> Split:
    rng = rng_for(seed, "sure", name)
    answer, guess = (rng.choice([-1.0, 1.0], samples) for _ in range(2))
    x = np.zeros((samples, _STEPS, _FEATURES), np.float32)
    near = np.arange(samples) % 2 == 0
    x[:, 0, 0] = np.where(near, 0.1 * guess, 4.0 * answer)
    x[:, 0, 1] = 3.0 * answer
    y = (answer > 0).astype(np.float32)[:, None]
    return Split(x=x, y=y, group=np.arange(samples, dtype=np.int64) // 4 + 1_000 * first)


TASK = SureTask()
