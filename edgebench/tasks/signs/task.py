"""The task of recognising traffic signs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from edgebench.tasks.metrics import class_intervals, class_metrics, class_right
from edgebench.tasks.sources import Source, load
from edgebench.tasks.task import Baseline, Dataset, Epoch, Loss, ModelInfo, Size

if TYPE_CHECKING:
    import keras

_MODELS: dict[Size, ModelInfo] = {
    "light": ModelInfo("3 convolutions, dense 96", 141_779),
    "heavy": ModelInfo("3 convolutions, 128 primary capsules, 43 sign capsules of 8, 3 routing iterations", 482_976),
    "published": ModelInfo("CapsNet: convolution 256, 2,048 primary capsules, 43 sign capsules of 16", 16_643_328),
}


@dataclass(frozen=True)
class SignTask:
    """Which of 43 signs is it? Implements `edgebench.tasks.task.Task`."""

    name: str = "sign-recognition"
    scenario: str = "vehicle"
    metric: str = "top1"
    models: Mapping[Size, ModelInfo] = field(default_factory=lambda: _MODELS)
    loss: Loss = "sparse_categorical_crossentropy"

    def sources(self) -> Sequence[Source]:
        """See `Task.sources`."""
        from edgebench.tasks.signs.gtsrb import SOURCES

        return SOURCES

    def load(self, data: Path | None, *, seed: int) -> Dataset:
        """See `Task.load`; samples uint8 [32, 32, 3], a label is the number of a class. Real data is split in the
        same way whatever the seed."""
        if data is not None:
            return load(self.name, self.sources(), data)
        from edgebench.tasks.signs.generator import generate

        return generate(seed=seed)

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
        """See `Task.fit`; outputs float32 [batch, 43], probabilities."""
        from edgebench.tasks.signs.fit import fit

        return fit(size, dataset, seed=seed, epochs=epochs, examples=examples, progress=progress)

    def score(self, outputs: NDArray[np.float32], labels: NDArray[np.float32]) -> dict[str, float]:
        """`top1` and `top5`."""
        return class_metrics(outputs, labels)

    def right(self, outputs: NDArray[np.float32], labels: NDArray[np.float32]) -> NDArray[np.bool_]:
        """See `Task.right`."""
        return class_right(outputs, labels)

    def intervals(
        self,
        outputs: NDArray[np.float32],
        labels: NDArray[np.float32],
        *,
        seed: int,
        group: NDArray[np.int64] | None = None,
    ) -> dict[str, tuple[float, float]]:
        """See `Task.intervals`; with `group` [sample] whole tracks are drawn, not samples."""
        return class_intervals(outputs, labels, seed=seed, group=group)

    def baseline(self, dataset: Dataset, *, seed: int) -> Baseline:
        """See `Task.baseline`."""
        from edgebench.tasks.signs.baseline import fit_baseline

        return fit_baseline(dataset, seed=seed)


TASK = SignTask()
