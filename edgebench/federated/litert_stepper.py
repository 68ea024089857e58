"""Training steps with LiteRT alone: the graph that `cloud.stepping` makes of a model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from edgebench.errors import ModelError
from edgebench.federated.learner import LocalPlan, StepSpec, Weights, check_weights
from edgebench.inference.litert import interpreter_class


class LiteRtStepper:
    """`step.tflite`, with `step.json` beside it. Implements `Stepper`; on one thread.

    The weights are arguments of the graph, so one serves any number of clients, one after another.
    """

    def __init__(self, path: Path) -> None:
        """Raises ModelError where no LiteRT is installed, or the files are not what they should be."""
        try:
            self.spec = msgspec.json.decode(path.with_suffix(".json").read_bytes(), type=StepSpec)
            self._interpreter: Any = interpreter_class()(model_path=str(path), num_threads=1)
            self._interpreter.allocate_tensors()
        except (OSError, msgspec.DecodeError, ValueError, RuntimeError) as error:
            raise ModelError(f"{path}: not a training step that runs here: {' '.join(str(error).split())}") from error
        self._path = path
        self._inputs = {each["name"]: each["index"] for each in self._interpreter.get_input_details()}
        w, v, self._loss = (each["index"] for each in self._interpreter.get_output_details())
        # Functions that give a view of a tensor. No view may be kept: while there is one, nothing runs.
        self._anchor, self._w, self._v = (self._interpreter.tensor(self._inputs[name]) for name in ("anchor", "w", "v"))
        self._new_w, self._new_v = self._interpreter.tensor(w), self._interpreter.tensor(v)

    @property
    def names(self) -> tuple[str, ...]:
        """See `Stepper`."""
        return self.spec.names

    def load(self, weights: Weights, plan: LocalPlan) -> None:
        """See `Stepper`; a step takes batches of one size only."""
        if plan.batch_size != self.spec.batch:
            raise ModelError(f"{self._path}: takes batches of {self.spec.batch}, not of {plan.batch_size}")
        check_weights(weights, self.spec.names, self.spec.shapes)
        np.concatenate([np.ravel(weight) for weight in weights], out=self._anchor())
        np.copyto(self._w(), self._anchor())
        self._v().fill(0)
        scalars = {
            "lr": plan.learning_rate,
            "momentum": plan.momentum,
            "clip_norm": plan.clip_norm,
            "mu": plan.proximal_mu,
        }
        for name, value in scalars.items():
            self._interpreter.set_tensor(self._inputs[name], np.float32(value))

    def step(self, x: NDArray[Any], y: NDArray[np.float32], weight: NDArray[np.float32]) -> float:
        """See `Stepper`."""
        for name, value in (("x", x), ("y", y), ("weight", weight)):
            self._interpreter.set_tensor(self._inputs[name], value)
        self._interpreter.invoke()
        np.copyto(self._w(), self._new_w())
        np.copyto(self._v(), self._new_v())
        return float(self._interpreter.get_tensor(self._loss))

    def weights(self) -> list[NDArray[np.float32]]:
        """See `Stepper`."""
        sizes = [int(np.prod(shape)) for shape in self.spec.shapes]
        parts = np.split(self._w(), np.cumsum(sizes)[:-1])
        return [part.reshape(shape).copy() for part, shape in zip(parts, self.spec.shapes, strict=True)]
