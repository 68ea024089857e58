"""What tasks of pictures, sound and skeletons have in common: parts in modules of one package, imported when used."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from edgebench.tasks import sources
from edgebench.tasks.metrics import class_intervals, class_metrics, class_right
from edgebench.tasks.task import Baseline, Dataset, DataSource, FitOptions, Loss, ModelInfo, Size

if TYPE_CHECKING:
    import keras


@dataclass(frozen=True, kw_only=True)
class PackagedTask:
    """Implements `edgebench.tasks.task.Task` but for `score` and `intervals`, which a subclass gives.

    package: where its modules are: `sources.sources()`, `generator.generate(seed=…)`, `fit.fit(size, dataset, options)`
    and `baseline.fit_baseline(dataset)`, which are as the methods of `Task` are.
    """

    package: ClassVar[str]

    name: str
    scenario: str
    metric: str
    models: Mapping[Size, ModelInfo]

    def sources(self) -> Sequence[DataSource]:
        """See `Task.sources`."""
        found: Sequence[DataSource] = self._part("sources", "sources")()
        return found

    def load(self, data: Path | None, *, seed: int) -> Dataset:
        """See `Task.load`. Real data is split in the same way whatever the seed."""
        if data is not None:
            return sources.load(self.name, self.sources(), data)
        generated: Dataset = self._part("generator", "generate")(seed=seed)
        return generated

    def fit(self, size: Size, dataset: Dataset, options: FitOptions) -> keras.Model:
        """See `Task.fit`."""
        fit = self._part("fit", "fit")
        return fit(size, dataset, options)

    def baseline(self, dataset: Dataset, *, seed: int) -> Baseline:
        """See `Task.baseline`; nothing in it is left to chance."""
        fitted: Baseline = self._part("baseline", "fit_baseline")(dataset)
        return fitted

    def _part(self, module: str, attribute: str) -> Any:
        return getattr(importlib.import_module(f"{self.package}.{module}"), attribute)


@dataclass(frozen=True, kw_only=True)
class PackagedClassTask(PackagedTask):
    """One that tells classes apart: outputs are probabilities of classes, a label is the number of one."""

    metric: str = "top1"
    loss: Loss = "sparse_categorical_crossentropy"

    def score(self, outputs: NDArray[np.float32], labels: NDArray[np.float32]) -> dict[str, float]:
        """`top1` and `top5`."""
        return class_metrics(outputs, labels)

    def right(self, outputs: NDArray[np.float32], labels: NDArray[np.float32]) -> NDArray[np.float32]:
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
        """See `Task.intervals`."""
        return class_intervals(outputs, labels, seed=seed, group=group)
