"""A task whose small model is sure of half its samples, and right about them; of the rest it knows nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from edgebench.seeds import rng_for
from edgebench.tasks.metrics import ratio_intervals
from edgebench.tasks.task import Baseline, Dataset, Epoch, Loss, ModelInfo, Size, Split

if TYPE_CHECKING:
    import keras

_STEPS, _FEATURES = 48, 76


@dataclass(frozen=True)
class SureTask:
    """Is the second value of a sample above zero? The first one tells for half the samples, by a wide margin."""

    name: str = "tests.system.sure:TASK"
    scenario: str = "test"
    metric: str = "accuracy"
    models: Mapping[Size, ModelInfo] = field(
        default_factory=lambda: {"light": ModelInfo("the first value"), "heavy": ModelInfo("the second value")}
    )
    loss: Loss = "binary_crossentropy"

    def load(self, data: Path | None, *, seed: int) -> Dataset:
        splits = {name: _split(name, first, seed) for first, name in enumerate(("train", "valid", "test"))}
        return Dataset(source="generated", real=False, features=(), natural_key=None, **splits)

    def fit(
        self,
        size: Size,
        dataset: Dataset,
        *,
        seed: int,
        epochs: int | None = None,
        examples: int | None = None,
        progress: Callable[[Epoch], None] | None = None,
    ) -> keras.Model:
        import keras

        decide = keras.layers.Dense(1, activation="sigmoid")
        model = keras.Sequential([keras.Input((_STEPS, _FEATURES), name="sample"), keras.layers.Flatten(), decide])
        weights = np.zeros((_STEPS * _FEATURES, 1), np.float32)
        weights[0 if size == "light" else 1] = 1.0
        decide.set_weights([weights, np.zeros(1, np.float32)])
        return model

    def score(self, outputs: NDArray[np.float32], labels: NDArray[np.float32]) -> dict[str, float]:
        return {"accuracy": float(_right(outputs, labels).mean())}

    def intervals(
        self,
        outputs: NDArray[np.float32],
        labels: NDArray[np.float32],
        *,
        seed: int,
        group: NDArray[np.int64] | None = None,
    ) -> dict[str, tuple[float, float]]:
        right = _right(outputs, labels)
        return ratio_intervals({"accuracy": (right, np.ones(len(right)))}, seed=seed, group=group)

    def baseline(self, dataset: Dataset, *, seed: int) -> Baseline:
        return Baseline("always yes", self.score(np.ones_like(dataset.test.y), dataset.test.y))


def _right(outputs: NDArray[np.float32], labels: NDArray[np.float32]) -> NDArray[np.float64]:
    return ((outputs[:, 0] > 0.5) == (labels[:, 0] > 0.5)).astype(np.float64)


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
