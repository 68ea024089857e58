"""One interface to every way of running a model, and the table of the built-in ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from edgebench.inference.spec import Manifest


class Runtime(Protocol):
    """A loaded model. Not thread-safe: it belongs to one thread at a time."""

    def infer(self, x: NDArray[Any]) -> NDArray[np.float32]:
        """Outputs [n, output] for samples [n, *shape] of the manifest's dtype, 1 ≤ n ≤ the largest batch size."""
        ...

    def close(self) -> None:
        """Release what it holds."""
        ...


BUILT_IN = {
    "litert": "edgebench.inference.litert:LiteRtRuntime",
    "keras": "edgebench.inference.keras_runtime:KerasRuntime",
    "fake": "edgebench.inference.fake:FakeRuntime",
}
"""Runtime name -> `module:attribute` of a callable `(path: Path, manifest: Manifest) -> Runtime`."""


def open_runtime(path: Path, manifest: Manifest) -> Runtime:
    """Load the model file with the runtime that its manifest names.

    Raises ModelError where the runtime is not installed or the file does not load.
    """
    raise ModuleNotFoundError(manifest.runtime)
