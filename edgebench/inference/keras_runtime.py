"""Keras: float32 models in the cloud, from a `.keras` file."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgebench.errors import ModelError
from edgebench.inference.batched import BatchPlanner
from edgebench.inference.spec import Manifest


class KerasRuntime:
    """A Keras model. The file may hold layers and weights but no code: a model with a lambda in it is refused."""

    def __init__(self, path: Path, manifest: Manifest) -> None:
        """Raises ModelError where Keras is not installed, or the file is not what the manifest says."""
        self._model = load_keras(path)
        shape, outputs = tuple(self._model.input_shape[1:]), int(self._model.output_shape[-1])
        if shape != manifest.input.shape or outputs != manifest.outputs:
            raise ModelError(
                f"{path}: takes {shape} and gives {outputs} values, "
                f"where its manifest says {manifest.input.shape} and {manifest.outputs}"
            )
        self.infer = BatchPlanner(manifest, self._run).infer

    def close(self) -> None:
        """Release the model."""
        del self._model, self.infer

    def _run(self, batch: int, x: NDArray[Any]) -> NDArray[np.float32]:
        return np.asarray(self._model.predict_on_batch(x), np.float32)


def load_keras(path: Path) -> Any:
    """The model in a file. Raises ModelError where Keras is not installed, or the file does not load safely."""
    try:
        import keras
    except ModuleNotFoundError as error:
        raise ModelError(f"{path}: Keras is not installed here: pip install 'edgebench[lab]'") from error
    if not zipfile.is_zipfile(path):  # Keras says that there is no file
        raise ModelError(f"{path}: not a Keras model, which is a zip file (copy or save it again)")
    try:
        return _load(keras, path)
    except (ValueError, TypeError, OSError, KeyError) as error:
        why = " ".join(str(error.args[0] if isinstance(error, KeyError) else error).split())
        raise ModelError(f"{path}: not a Keras model that loads safely: {why} (save it again)") from error


def _load(keras: Any, path: Path) -> Any:
    if path.suffix == ".keras":
        return keras.models.load_model(path, compile=False, safe_mode=True)
    # Keras goes by the suffix, a registry's files have none of its own.
    import tempfile

    with tempfile.TemporaryDirectory(prefix="edgebench-keras-") as folder:
        link = Path(folder) / "model.keras"
        link.symlink_to(path.resolve())
        return keras.models.load_model(link, compile=False, safe_mode=True)
