"""A model that costs a stated time and knows nothing: to measure the testbed itself, and to test with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from edgebench.clock import sleep_s
from edgebench.decoding import from_json
from edgebench.errors import ModelError
from edgebench.inference.spec import Manifest


class FakeModel(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The whole content of a fake model's file: the time that a batch takes, whatever its size."""

    latency_s: float = 0.0


class FakeRuntime:
    """Takes `latency_s` a call and decides by the mean of each sample: output k is sigmoid(mean + k)."""

    def __init__(self, latency_s: float = 0.0, outputs: int = 1) -> None:
        self._latency_s = latency_s
        self._offsets = np.arange(outputs, dtype=np.float32)

    def infer(self, x: NDArray[Any]) -> NDArray[np.float32]:
        """See `Runtime.infer`."""
        if self._latency_s > 0:
            sleep_s(self._latency_s)
        mean = x.reshape(len(x), -1).mean(axis=1, dtype=np.float64)
        return np.asarray(1 / (1 + np.exp(-(mean[:, None] + self._offsets))), np.float32)

    def close(self) -> None:
        """Nothing to release."""


def open_fake(path: Path, manifest: Manifest) -> FakeRuntime:
    """The fake runtime that a JSON file `{"latency_s": …}` describes. Raises ModelError for anything else."""
    try:
        model = from_json(path.read_bytes(), FakeModel)
    except (OSError, msgspec.DecodeError) as error:
        raise ModelError(f"{path}: not a fake model: {error}") from error
    return FakeRuntime(model.latency_s, manifest.outputs)
