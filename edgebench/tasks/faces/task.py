"""Face recognition at home: two pictures of one person, or of two?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from edgebench.tasks.faces.labels import PERSON, face_intervals, face_metrics
from edgebench.tasks.packaged import PackagedTask
from edgebench.tasks.task import Dataset, FitOptions, ModelInfo, Size

if TYPE_CHECKING:
    import keras


@dataclass(frozen=True, kw_only=True)
class FaceTask(PackagedTask):
    """Embeddings of faces, compared by their cosine. Samples are uint8 [56, 48, 1 or 3], labels as `labels.py` says.

    heavy: what is trained as `heavy`: with an angular margin, or on triplets.
    """

    package: ClassVar[str] = "edgebench.tasks.faces"

    heavy: Literal["sphereface", "facenet"]

    def fit(self, size: Size, dataset: Dataset, options: FitOptions) -> keras.Model:
        """See `Task.fit`; outputs float32 [batch, 64, 128 or 512], embeddings of length 1. `examples` counts people."""
        from edgebench.tasks.faces.fit import fit

        return fit(size, self.heavy, dataset, options)

    def loss(self, labels: Any, outputs: Any) -> Any:
        """See `Task.loss`: that of the hardest triplets in a batch, so a device learns if it sees several people."""
        from edgebench.tasks.triplets import hard_triplets

        return hard_triplets(labels[:, PERSON], outputs)

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


_LIGHT = ModelInfo("MobileFaceNet-like, 64 outputs, angular margin", 80_704)
_SPHEREFACE = ModelInfo("SphereFace-like, 128 outputs, angular margin", 1_542_080)
_FACENET = ModelInfo("FaceNet-like: Inception-ResNet, 128 outputs, semi-hard triplets", 264_192)
_PUBLISHED = ModelInfo("SphereFace-20 at 112 × 96, 512 outputs", 22_666_944)


def _task(name: str, heavy: Literal["sphereface", "facenet"], info: ModelInfo) -> FaceTask:
    models: dict[Size, ModelInfo] = {"light": _LIGHT, "heavy": info, "published": _PUBLISHED}
    return FaceTask(name=name, scenario="smart-home", metric="auc", models=models, heavy=heavy)


FACES = _task("face-recognition", "facenet", _FACENET)
SPHEREFACE = _task("edgebench.tasks.faces.task:SPHEREFACE", "sphereface", _SPHEREFACE)
"""The same with SphereFace as `heavy`."""
