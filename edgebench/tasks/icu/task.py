"""The three tasks of the intensive care unit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from edgebench.tasks.icu.generator import Outcome, generate
from edgebench.tasks.metrics import binary_intervals, binary_metrics
from edgebench.tasks.sources import load
from edgebench.tasks.task import Baseline, Dataset, DataSource, FitOptions, Loss, ModelInfo, Size

if TYPE_CHECKING:
    import keras

    from edgebench.tasks.icu.models import PublishedShape


@dataclass(frozen=True)
class IcuTask:
    """One question about a patient, put to the last 48 hours. Implements `edgebench.tasks.task.Task`."""

    name: str
    outcome: Outcome
    published: PublishedShape
    """The published shape for this question; Source: Hao et al. 2021, which takes them from the MIMIC-III benchmark."""
    models: Mapping[Size, ModelInfo]
    scenario: str = "icu"
    metric: str = "auroc"
    loss: Loss = "binary_crossentropy"

    def sources(self) -> Sequence[DataSource]:
        """See `Task.sources`."""
        from edgebench.tasks.icu.sources import sources

        return sources(self.outcome)

    def load(self, data: Path | None, *, seed: int) -> Dataset:
        """See `Task.load`. Real data is split in the same way whatever the seed."""
        return generate(self.outcome, seed=seed) if data is None else load(self.name, self.sources(), data)

    def fit(self, size: Size, dataset: Dataset, options: FitOptions) -> keras.Model:
        """See `Task.fit`; samples float32 [batch, 48, feature], outputs float32 [batch, 1], a probability."""
        from edgebench.tasks.icu.fit import fit

        return fit(size, self.published, dataset, options)

    def score(self, outputs: NDArray[np.float32], labels: NDArray[np.float32]) -> dict[str, float]:
        """`auroc` and `auprc`."""
        return binary_metrics(outputs, labels)

    def intervals(
        self,
        outputs: NDArray[np.float32],
        labels: NDArray[np.float32],
        *,
        seed: int,
        group: NDArray[np.int64] | None = None,
    ) -> dict[str, tuple[float, float]]:
        """See `Task.intervals`; with `group` [sample] whole patients are drawn, not samples."""
        return binary_intervals(outputs, labels, seed=seed, group=group)

    def baseline(self, dataset: Dataset, *, seed: int) -> Baseline:
        """See `Task.baseline`; nothing in it is left to chance."""
        from edgebench.tasks.icu.baseline import fit_baseline

        return fit_baseline(dataset)


_PUBLISHED_BYTES = 48 * 76 * 4
"""Of a sample as the literature has it: 48 hours of 76 features in float32."""


def _models(published: str, parameters: int, multiply_adds: int) -> dict[Size, ModelInfo]:
    return {
        "light": ModelInfo("LSTM 16 and dense 16, blended with a linear model of summaries", 12_462),
        "heavy": ModelInfo("LSTM 32, GRU 32 and dense 64, blended with a linear model of summaries", 49_408),
        "published": ModelInfo(published, parameters, multiply_adds, _PUBLISHED_BYTES),
    }


DEATH = IcuTask("icu-death", "death", "bilstm-8-lstm-16", _models("BiLSTM 8 + 8, LSTM 16", 7_569, 356_368))
DECOMPENSATION = IcuTask("icu-decompensation", "decompensation", "lstm-128", _models("LSTM 128", 105_089, 5_013_632))
HEART_FAILURE = IcuTask(
    "icu-heart-failure", "heart-failure", "lstm-256", _models("LSTM 256, 25 phenotypes", 347_417, 16_324_864)
)
