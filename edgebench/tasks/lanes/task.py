"""Lane detection, a task of the autonomous vehicle."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from edgebench.tasks.lanes.decoding import lanes_from
from edgebench.tasks.lanes.evaluation import MATCHED, frame_ratios, lane_metrics
from edgebench.tasks.lanes.geometry import lanes_of
from edgebench.tasks.metrics import ratio_intervals
from edgebench.tasks.packaged import PackagedTask
from edgebench.tasks.task import ModelInfo


@dataclass(frozen=True, kw_only=True)
class LaneTask(PackagedTask):
    """Where the lanes run in a frame of a car's camera.

    Samples are uint8 [80, 160, 3], labels float32 [5 * 56], see `geometry`; outputs are row anchors (light) or segments
    (heavy, published), see `decoding`. Its devices cannot learn it: outputs are compared with labels by way of lanes,
    not value by value.
    """

    package: ClassVar[str] = "edgebench.tasks.lanes"

    def score(self, outputs: NDArray[np.float32], labels: NDArray[np.float32]) -> dict[str, float]:
        """`accuracy`, `fp`, `fn` and `points`, see `evaluation`; NaN where no frame has a lane."""
        return lane_metrics(lanes_from(outputs), lanes_of(labels))

    def right(self, outputs: NDArray[np.float32], labels: NDArray[np.float32]) -> NDArray[np.float32]:
        """See `Task.right`: a frame's accuracy is that which a matched lane has to have. Without a labelled lane the
        frame may have none, or no labels."""
        found, points = frame_ratios(lanes_from(outputs), lanes_of(labels))["accuracy"]
        return np.where(points > 0, found >= MATCHED * points, np.nan).astype(np.float32)

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


TASK = LaneTask(
    name="lane-detection",
    scenario="vehicle",
    metric="accuracy",
    models={
        "light": ModelInfo("row anchors on a small convolutional net", 327_172),
        "heavy": ModelInfo("LaneNet with a residual encoder and two decoders", 518_637),
        "published": ModelInfo("LaneNet on ENet, 256 × 512", 546_740),
    },
)
