"""ONNX: models that were made elsewhere, of a torch module above all, on one thread each."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgebench.errors import ModelError
from edgebench.inference.spec import Manifest

_TYPES = {
    "float32": "tensor(float)",
    "float64": "tensor(double)",
    "uint8": "tensor(uint8)",
    "int8": "tensor(int8)",
    "int16": "tensor(int16)",
    "int32": "tensor(int32)",
    "int64": "tensor(int64)",
}
"""What ONNX calls NumPy's dtypes."""
DTYPES = {name: dtype for dtype, name in _TYPES.items()}
"""The other way round."""


class OnnxRuntime:
    """An ONNX file with one input and one output, whose first axis is free."""

    def __init__(self, path: Path, manifest: Manifest) -> None:
        """Raises ModelError where ONNX Runtime is not installed, or the file is not what the manifest says."""
        self._session = open_session(path)
        taken, given = self._session.get_inputs(), self._session.get_outputs()
        if len(taken) != 1 or len(given) != 1 or tuple(taken[0].shape[1:]) != manifest.input.shape:
            shapes = [tuple(each.shape) for each in taken]
            raise ModelError(
                f"{path}: takes {shapes}, where its manifest says one of {('batch', *manifest.input.shape)}"
            )
        if taken[0].type != _TYPES.get(manifest.input.dtype) or given[0].shape[-1] != manifest.outputs:
            found = f"takes {taken[0].type} and gives {given[0].shape[-1]} values"
            raise ModelError(f"{path}: {found}, where its manifest says {manifest.input.dtype} and {manifest.outputs}")
        self._path = path
        self._input = taken[0].name

    def infer(self, x: NDArray[Any]) -> NDArray[np.float32]:
        """See `Runtime.infer`."""
        try:
            found: NDArray[np.float32] = self._session.run(None, {self._input: x})[0]
        except Exception as error:
            raise ModelError(f"{self._path}: failed while it ran: {' '.join(str(error).split())}") from error
        return found

    def close(self) -> None:
        """Release the session."""
        del self._session


def open_session(path: Path) -> Any:
    """A session on one thread. Raises ModelError where ONNX Runtime is not installed, or the file does not load."""
    try:
        import onnxruntime
    except ModuleNotFoundError as error:
        raise ModelError(f"{path}: no ONNX Runtime here: pip install 'edgebench[onnx]'") from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its own errors share no base class
        raise ModelError(f"{path}: not an ONNX model that runs here: {' '.join(str(error).split())}") from error
