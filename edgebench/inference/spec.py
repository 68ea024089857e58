"""What a model file is: the tensors it takes and gives, and where it comes from."""

from __future__ import annotations

from typing import Literal

import msgspec
import numpy as np


class TensorSpec(msgspec.Struct, frozen=True):
    """Data type and shape of one sample, without a batch axis."""

    dtype: str
    shape: tuple[int, ...]

    @property
    def size_bytes(self) -> int:
        """Bytes of one raw sample."""
        return int(np.dtype(self.dtype).itemsize * np.prod(self.shape, dtype=np.int64))


class Part(msgspec.Struct, frozen=True):
    """One of the two parts of a model that was cut `after` the layer of that name.

    share: of the time that both together took, one sample at a time, where they were made.
    """

    kind: Literal["head", "tail"]
    after: str
    share: float


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """Describes one model file; registries keep it beside the file, announcements carry it.

    digest: SHA-256 of the file, hex. input: one sample. outputs: values a sample. batches: the batch sizes that the
    file can run at, ascending. metrics: on held-out data that was never trained on (`evaluated_on` names the split);
    metrics_before_export: of the model as it was trained, in float32, on the same data.
    real: whether the data was real; generated otherwise. threshold: only while a cascade announces it: the least
    confidence with which its decision stands; a sample of which it is less sure goes on to the cloud. part: of a model
    that was cut in two, which this is; `metrics` and what it was trained with are then of both together, and stand with
    the tail. head: only while a chain announces it whose devices have the first stage: the model of that.
    """

    digest: str
    size_bytes: int
    task: str
    model_size: str
    runtime: str
    quantisation: str
    input: TensorSpec
    outputs: int
    batches: tuple[int, ...]
    parameters: int
    data_source: str
    real: bool
    examples: int
    epochs: int
    seed: int
    evaluated_on: str
    metrics: dict[str, float]
    metrics_before_export: dict[str, float] = {}
    train_s: float
    threshold: float | None = None
    part: Part | None = None
    head: Manifest | None = None
