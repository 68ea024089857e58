"""What a model file itself tells: `python -m edgebench.inference.model_facts RUNTIME FILE` prints it as JSON.

A program of its own, since a runtime can end the whole process over a broken file.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from edgebench.errors import EdgebenchError, ModelError
from edgebench.inference.spec import TensorSpec

SUFFIXES = {".tflite": "litert", ".keras": "keras", ".onnx": "onnx"}
"""The runtime of a file that nothing else describes."""
ANY_BATCH = (1, 8, 32)
"""Batch sizes for a file that takes any: those of our own exports."""


class ModelFacts(msgspec.Struct, frozen=True):
    """inputs, outputs: of one sample, without the batch axis. batches: the batch sizes that it can run at, ascending.

    error: why nothing can be told; the rest is empty then.
    """

    inputs: tuple[TensorSpec, ...] = ()
    outputs: tuple[TensorSpec, ...] = ()
    batches: tuple[int, ...] = ()
    error: str | None = None


def facts_of(runtime: str, path: Path) -> ModelFacts:
    """Read here and now. Raises ModelError where the runtime is not installed, or cannot load the file."""
    return {"litert": _litert, "keras": _keras, "onnx": _onnx}[runtime](path)


def _litert(path: Path) -> ModelFacts:
    from edgebench.inference.litert import interpreter_class

    try:
        interpreter = interpreter_class()(model_path=str(path), num_threads=1)
        interpreter.allocate_tensors()
    except (ValueError, RuntimeError) as error:
        raise ModelError(f"is no LiteRT model that runs here: {_one_line(error)} (copy or export it again)") from error
    inputs, outputs = interpreter.get_input_details(), interpreter.get_output_details()
    first = int(inputs[0]["shape"][0]) if len(inputs[0]["shape"]) else 1
    signed = [name.removeprefix("batch_") for name in interpreter.get_signature_list() if name.startswith("batch_")]
    batches = sorted({first, *map(int, filter(str.isdecimal, signed))})

    def specs(side: list[dict[str, Any]]) -> tuple[TensorSpec, ...]:
        return tuple(_spec(str(np.dtype(each["dtype"])), each["shape"]) for each in side)

    return ModelFacts(specs(inputs), specs(outputs), tuple(batches))


def _keras(path: Path) -> ModelFacts:
    from edgebench.inference.keras_runtime import load_keras

    model = load_keras(path)

    def specs(side: list[Any]) -> tuple[TensorSpec, ...]:
        return tuple(_spec(str(each.dtype), each.shape) for each in side)

    return ModelFacts(specs(model.inputs), specs(model.outputs), ANY_BATCH)


def _onnx(path: Path) -> ModelFacts:
    from edgebench.inference.onnx_runtime import DTYPES, open_session

    session = open_session(path)

    def specs(side: list[Any]) -> tuple[TensorSpec, ...]:
        return tuple(_spec(DTYPES.get(each.type, each.type), each.shape) for each in side)

    return ModelFacts(specs(session.get_inputs()), specs(session.get_outputs()), ANY_BATCH)


def _spec(dtype: str, shape: Iterable[Any]) -> TensorSpec:
    """-1 for an axis of any size."""
    return TensorSpec(dtype, tuple(int(size) if isinstance(size, int | np.integer) else -1 for size in shape)[1:])


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())


def main(arguments: list[str]) -> int:
    """Exit status 0 whatever was found."""
    runtime, path = arguments
    told = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever libraries print must not mix with it
    try:
        facts = facts_of(runtime, Path(path))
    except EdgebenchError as error:
        facts = ModelFacts(error=_one_line(error).removeprefix(f"{path}: "))
    told.write(msgspec.json.encode(facts) + b"\n")
    told.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
