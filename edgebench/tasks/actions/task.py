"""What does this person do?"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from edgebench.tasks.actions.generator import generate
from edgebench.tasks.metrics import class_intervals, class_metrics, class_right
from edgebench.tasks.sources import Source, load
from edgebench.tasks.task import Baseline, Dataset, Epoch, Loss, ModelInfo, Size

if TYPE_CHECKING:
    import keras


def _models() -> dict[Size, ModelInfo]:
    return {
        "light": ModelInfo("three convolutions over time (of frames: five over a picture, averaged)", 154_484),
        "heavy": ModelInfo("ResNet-18 of half width on joint × time (of frames: of whole width, averaged)", 2_806_996),
        "published": ModelInfo("ResNet-18 at 224 × 224 (of frames: averaged)", 11_196_372),
    }


@dataclass(frozen=True)
class ActionTask:
    """One action a sample, by a person whom the models have not seen. Implements `edgebench.tasks.task.Task`."""

    name: str = "action-recognition"
    scenario: str = "surveillance"
    metric: str = "top1"
    models: Mapping[Size, ModelInfo] = field(default_factory=_models)
    loss: Loss = "sparse_categorical_crossentropy"

    def sources(self) -> Sequence[Source]:
        """See `Task.sources`."""
        from edgebench.tasks.actions.sources import sources

        return sources()

    def load(self, data: Path | None, *, seed: int) -> Dataset:
        """See `Task.load`. Real data is split in the same way whatever the seed."""
        return generate(seed=seed) if data is None else load(self.name, self.sources(), data)

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
        """See `Task.fit`; samples uint8 (skeletons or frames, see `models`), outputs float32 [batch, class],
        probabilities."""
        from edgebench.tasks.actions.fit import fit

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
        """See `Task.intervals`. Groups are sequences: an interval tells of others of the same people."""
        return class_intervals(outputs, labels, seed=seed, group=group)

    def baseline(self, dataset: Dataset, *, seed: int) -> Baseline:
        """See `Task.baseline`; nothing in it is left to chance."""
        from edgebench.tasks.actions.baseline import fit_baseline

        return fit_baseline(dataset)


ACTIONS = ActionTask()
