"""Person re-identification by surveillance cameras: where else has this pedestrian been seen?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from edgebench.tasks.packaged import PackagedTask
from edgebench.tasks.reid.labels import IDENTITY, reid_intervals, reid_metrics
from edgebench.tasks.task import ModelInfo


@dataclass(frozen=True, kw_only=True)
class ReidTask(PackagedTask):
    """Embeddings of pedestrians, compared by their cosine. Samples are uint8 [96, 48, 3], labels as `labels.py` says,
    outputs float32 [96, 192 or 1024], of length 1. `examples` of `fit` counts people.
    """

    package: ClassVar[str] = "edgebench.tasks.reid"

    def loss(self, labels: Any, outputs: Any) -> Any:
        """See `Task.loss`: that of the hardest triplets in a batch, so a device learns if it sees several people."""
        from edgebench.tasks.triplets import hard_triplets

        return hard_triplets(labels[:, IDENTITY], outputs)

    def score(self, outputs: NDArray[np.float32], labels: NDArray[np.float32]) -> dict[str, float]:
        """`rank1` and `map`; see `reid_metrics`."""
        return reid_metrics(outputs, labels)

    def intervals(
        self,
        outputs: NDArray[np.float32],
        labels: NDArray[np.float32],
        *,
        seed: int,
        group: NDArray[np.int64] | None = None,
    ) -> dict[str, tuple[float, float]]:
        """See `Task.intervals`; with `group` [sample] whole people are drawn, not queries."""
        return reid_intervals(outputs, labels, seed=seed, group=group)


REID = ReidTask(
    name="person-reid",
    scenario="surveillance",
    metric="rank1",
    models={
        "light": ModelInfo("depthwise separable convolutions, 6 stripes × 16 outputs", 12_224),
        "heavy": ModelInfo("DG-Net, small: its appearance encoder, 6 stripes × 32 outputs", 265_512),
        "published": ModelInfo("DG-Net's appearance encoder: ResNet-50 at 256 × 128, 2 × 512 outputs", 25_663_424),
    },
)
