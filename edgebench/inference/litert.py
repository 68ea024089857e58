"""LiteRT: models on devices and edges, on one thread each."""

from __future__ import annotations

import contextlib
import importlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgebench.errors import ModelError
from edgebench.inference.batched import BatchPlanner
from edgebench.inference.spec import Manifest

_PACKAGES = ("ai_edge_litert.interpreter", "tflite_runtime.interpreter", "tensorflow.lite.python.interpreter")


class LiteRtRuntime:
    """A LiteRT file with a signature `batch_<n>` for each batch size of its manifest (input `x`, output `y`).

    The smallest batch size is the file's primary graph, so any LiteRT program runs the file.
    """

    def __init__(self, path: Path, manifest: Manifest) -> None:
        """Raises ModelError where no LiteRT is installed, or the file is not what the manifest says."""
        self._open = interpreter_class()
        self._path = path
        self._smallest = manifest.batches[0]
        self._interpreter = self._loaded()
        taken, given = self._interpreter.get_input_details()[0], self._interpreter.get_output_details()[0]
        self._input, self._output = taken["index"], given["index"]
        expected = (self._smallest, *manifest.input.shape)
        if tuple(taken["shape"]) != expected or np.dtype(taken["dtype"]) != np.dtype(manifest.input.dtype):
            raise ModelError(
                f"{path}: takes {np.dtype(taken['dtype'])} {tuple(map(int, taken['shape']))}, "
                f"where its manifest says {manifest.input.dtype} {expected}"
            )
        if int(given["shape"][-1]) != manifest.outputs:
            raise ModelError(
                f"{path}: gives {int(given['shape'][-1])} values, where its manifest says {manifest.outputs}"
            )
        # An interpreter refuses a plain `invoke` while anyone holds one of its signatures: they get one of their own.
        self._signature_owner: Any = None
        self._signatures: dict[int, _Signature] = {}
        self.infer = BatchPlanner(manifest, self._run).infer

    def close(self) -> None:
        """Release the interpreters."""
        self._signatures.clear()
        del self._interpreter, self._signature_owner, self.infer

    def _run(self, batch: int, x: NDArray[Any]) -> NDArray[np.float32]:
        try:
            if batch == self._smallest:
                interpreter = self._interpreter
                interpreter.set_tensor(self._input, x)
                interpreter.invoke()
                return interpreter.get_tensor(self._output)
            return (self._signatures.get(batch) or self._signature(batch)).run(x)
        except RuntimeError as error:  # a quantised divisor of 0, say
            raise ModelError(f"{self._path}: does not run: {_one_line(error)}") from error

    def _signature(self, batch: int) -> _Signature:
        if self._signature_owner is None:
            self._signature_owner = self._loaded()
        try:
            runner = self._signature_owner.get_signature_runner(f"batch_{batch}")
        except ValueError as error:
            raise ModelError(f"{self._path}: does not run at batch size {batch}, which its manifest lists") from error
        self._signatures[batch] = _Signature(runner)
        return self._signatures[batch]

    def _loaded(self) -> Any:
        try:
            interpreter = self._open(model_path=str(self._path), num_threads=1)
            interpreter.allocate_tensors()
        except (ValueError, RuntimeError) as error:
            raise ModelError(f"{self._path}: not a LiteRT model that runs here: {_one_line(error)}") from error
        return interpreter


class _Signature:
    """A graph of a file, by its signature.

    At each call LiteRT's runner makes its inputs the size that they have, and allocates again, which takes 4 µs. So
    what it does for the rest is done here from the second call on, by the same calls; they are the runner's own, and
    have been the same since TensorFlow 2.7.
    """

    def __init__(self, runner: Any) -> None:
        self._runner = runner
        self._is_allocated = False
        self._inner: tuple[Any, int, int, int] | None = None
        with contextlib.suppress(AttributeError):  # else it is a later one, which is called each time
            graph, graphs = runner._subgraph_index, runner._interpreter_wrapper
            self._inner = graphs, graph, runner._inputs["x"], dict(runner._outputs)["y"]

    def run(self, x: NDArray[Any]) -> NDArray[np.float32]:
        """Outputs [batch, output] of samples [batch, *shape]."""
        if not self._is_allocated or self._inner is None:
            outputs = self._runner(x=x)["y"]
            self._is_allocated = True
            return outputs
        graphs, graph, inputs, outputs_at = self._inner
        graphs.SetTensor(inputs, x, graph)
        graphs.Invoke(graph)
        return graphs.GetTensor(outputs_at, graph)


def interpreter_class() -> Any:
    """The interpreter of LiteRT, of its predecessor, or of TensorFlow: the first that is installed."""
    for package in _PACKAGES:
        try:
            return importlib.import_module(package).Interpreter
        except ModuleNotFoundError as error:
            if error.name is None or error.name.split(".")[0] != package.split(".")[0]:
                raise
    raise ModelError("no LiteRT here: pip install ai-edge-litert (on 32-bit Arm: tflite-runtime)")


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())
