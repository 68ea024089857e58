"""Lane detection, a task of the autonomous vehicle."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from edgebench.tasks.lanes.decoding import lanes_from
from edgebench.tasks.lanes.evaluation import frame_ratios, lane_metrics
from edgebench.tasks.lanes.generator import generate
from edgebench.tasks.lanes.geometry import lanes_of
from edgebench.tasks.lanes.sources import SOURCES
from edgebench.tasks.metrics import ratio_intervals
from edgebench.tasks.sources import Source, load
from edgebench.tasks.task import Baseline, Dataset, Epoch, ModelInfo, Size

_MATCHED = 0.85

if TYPE_CHECKING:
    import keras


@dataclass(frozen=True)
class LaneTask:
    """Where the lanes run in a frame of a car's camera. Implements `edgebench.tasks.task.Task`.

    Samples are uint8 [80, 160, 3], labels float32 [5 * 56], see `geometry`. Its devices cannot learn it: outputs are
    compared with labels by way of lanes, not value by value.
    """

    name: str = "lane-detection"
    scenario: str = "vehicle"
    metric: str = "accuracy"
    models: Mapping[Size, ModelInfo] = field(
        default_factory=lambda: {
            "light": ModelInfo("row anchors on a small convolutional net", 327_172),
            "heavy": ModelInfo("LaneNet with a residual encoder and two decoders", 518_637),
            "published": ModelInfo("LaneNet on ENet, 256 × 512", 546_740),
        }
    )

    def sources(self) -> Sequence[Source]:
        """See `Task.sources`."""
        return SOURCES

    def load(self, data: Path | None, *, seed: int) -> Dataset:
        """See `Task.load`. What is found under `data` is the same whatever the seed."""
        return generate(seed=seed) if data is None else load(self.name, SOURCES, data)

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
        """See `Task.fit`; outputs are row anchors (light) or segments (heavy, published), see `decoding`."""
        from edgebench.tasks.lanes.fit import fit

        return fit(size, dataset, seed=seed, epochs=epochs, examples=examples, progress=progress)

    def score(self, outputs: NDArray[np.float32], labels: NDArray[np.float32]) -> dict[str, float]:
        """`accuracy`, `fp`, `fn` and `points`, see `evaluation`; NaN where no frame has a lane."""
        return lane_metrics(lanes_from(outputs), lanes_of(labels))

    def right(self, outputs: NDArray[np.float32], labels: NDArray[np.float32]) -> NDArray[np.bool_]:
        """See `Task.right`: as many of a frame's points are found as a matched lane has to have, 85 %."""
        found, points = frame_ratios(lanes_from(outputs), lanes_of(labels))["accuracy"]
        return np.asarray(found >= _MATCHED * points, bool)

    def intervals(
        self,
        outputs: NDArray[np.float32],
        labels: NDArray[np.float32],
        *,
        seed: int,
        group: NDArray[np.int64] | None = None,
    ) -> dict[str, tuple[float, float]]:
        """See `Task.intervals`; with `group` [sample] whole clips are drawn, not frames."""
        return ratio_intervals(frame_ratios(lanes_from(outputs), lanes_of(labels)), seed=seed, group=group)

    def baseline(self, dataset: Dataset, *, seed: int) -> Baseline:
        """See `Task.baseline`; nothing in it is left to chance."""
        from edgebench.tasks.lanes.baseline import fit_baseline

        return fit_baseline(dataset)


TASK = LaneTask()
