"""Learns with torch what `learning` describes: `KERAS_BACKEND=torch python -m tests.federated.torch_learners DIR`.

DIR has the Keras files. It writes `<runtime>-<case>.npz`, the weights, and prints what it found of `STEPS_BY_HAND`, by
runtime, as JSON.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from edgebench.federated.keras_stepper import KerasStepper
from edgebench.federated.learner import Stepper
from edgebench.federated.torch_stepper import TorchStepper, torch_stepper_for_keras
from edgebench.tasks.task import Loss
from tests.federated.learning import CASES, initial_weights, learned, steps_by_hand

RUNTIMES: dict[str, Callable[[Path, Loss], Stepper]] = {
    "keras": KerasStepper,
    "torch": torch_stepper_for_keras,
}


def main(directory: Path) -> None:
    """Learn all of them."""
    found: dict[str, Any] = {}
    for runtime, opened in RUNTIMES.items():
        for name, case in CASES.items():
            path = directory / f"{name}.keras"
            stepper = opened(path, case.loss)
            if name == "line":
                found[runtime] = steps_by_hand(stepper)
                continue
            done = learned(stepper, case, initial_weights(path))
            _save(directory / f"{runtime}-{name}.npz", stepper.names, done.weights)
    own = nn.Linear(1, 1, bias=False)
    found["own"] = steps_by_hand(TorchStepper(own, lambda given, y: ((given - y) ** 2)[:, 0]))
    _learn_own(directory)
    print(json.dumps(found))


def _learn_own(directory: Path) -> None:
    """The case `dense` as a plain module, whose kernels are those of Keras, transposed."""
    inner = [nn.Linear(10, 16), nn.Tanh(), nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 3)]
    stepper = TorchStepper(nn.Sequential(*inner), CASES["dense"].loss)
    weights = [np.ascontiguousarray(weight.T) for weight in initial_weights(directory / "dense.keras")]
    done = learned(stepper, CASES["dense"], weights)
    _save(directory / "own-dense.npz", stepper.names, [weight.T for weight in done.weights])


def _save(path: Path, names: Sequence[str], weights: Sequence[NDArray[np.float32]]) -> None:
    by_name: dict[str, Any] = dict(zip(names, weights, strict=True))
    np.savez(path, **by_name)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(Path(sys.argv[1]))
