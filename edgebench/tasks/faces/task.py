"""Face recognition at home: two pictures of one person, or of two?"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from edgebench.tasks.faces.labels import face_intervals, face_metrics
from edgebench.tasks.sources import Source, load
from edgebench.tasks.task import Baseline, Dataset, Epoch, ModelInfo, Size

if TYPE_CHECKING:
    import keras


@dataclass(frozen=True)
class FaceTask:
    """Embeddings of faces, compared by their cosine. Implements `edgebench.tasks.task.Task`.

    Embeddings are no decisions, so there is no loss of outputs that devices could learn on.
    """

    name: str
    heavy: Literal["sphereface", "facenet"]
    """What is trained as `heavy`: with an angular margin, or on triplets."""
    models: Mapping[Size, ModelInfo]
    scenario: str = "smart-home"
    metric: str = "auc"

    def sources(self) -> Sequence[Source]:
        """See `Task.sources`."""
        from edgebench.tasks.faces.sources import sources

        return sources()

    def load(self, data: Path | None, *, seed: int) -> Dataset:
        """See `Task.load`; samples uint8 [56, 48, 1 or 3], labels as `labels.py` says. Real data is split in the same
        way whatever the seed."""
        if data is not None:
            return load(self.name, self.sources(), data)
        from edgebench.tasks.faces.generator import generate

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
        """See `Task.fit`; outputs float32 [batch, 64, 128 or 512], embeddings of length 1. `examples` counts people."""
        from edgebench.tasks.faces.fit import fit

        return fit(size, self.heavy, dataset, seed=seed, epochs=epochs, examples=examples, progress=progress)

    def score(self, outputs: NDArray[np.float32], labels: NDArray[np.float32]) -> dict[str, float]:
        """`auc`, `accuracy` and `rank1`; see `face_metrics`."""
        return face_metrics(outputs, labels)

    def intervals(
        self,
        outputs: NDArray[np.float32],
        labels: NDArray[np.float32],
        *,
        seed: int,
        group: NDArray[np.int64] | None = None,
    ) -> dict[str, tuple[float, float]]:
        """See `Task.intervals`; with `group` [sample] whole people are drawn, not pictures."""
        return face_intervals(outputs, labels, seed=seed, group=group)

    def baseline(self, dataset: Dataset, *, seed: int) -> Baseline:
        """See `Task.baseline`; nothing in it is left to chance."""
        from edgebench.tasks.faces.baseline import fit_baseline

        return fit_baseline(dataset)


_LIGHT = ModelInfo("MobileFaceNet-like, 64 outputs, angular margin", 80_704)
_SPHEREFACE = ModelInfo("SphereFace-like, 128 outputs, angular margin", 1_542_080)
_FACENET = ModelInfo("FaceNet-like: Inception-ResNet, 128 outputs, semi-hard triplets", 264_192)
_PUBLISHED = ModelInfo("SphereFace-20 at 112 × 96, 512 outputs", 22_666_944)

FACES = FaceTask("face-recognition", "facenet", {"light": _LIGHT, "heavy": _FACENET, "published": _PUBLISHED})
SPHEREFACE = FaceTask(
    "edgebench.tasks.faces.task:SPHEREFACE",
    "sphereface",
    {"light": _LIGHT, "heavy": _SPHEREFACE, "published": _PUBLISHED},
)
"""The same with SphereFace as `heavy`."""
