"""One learner of `learners.py`, in a process of its own that does nothing else.

    python benchmarks/one_learner.py litert|keras|torch lstm|conv DIR STEPS

DIR has what `learners.py` made: the Keras file, and the training step with what it takes. It prints a line when the
first step is done, then the median time of STEPS further ones in ms, and stays as it is until standard input ends.
"""

from __future__ import annotations

import statistics
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from edgebench.clock import now_s
from edgebench.federated.learner import LocalPlan, Stepper, StepSpec
from edgebench.seeds import rng_for

if TYPE_CHECKING:
    from torch import nn

_BATCHES = 4


def main(learner: str, network: str, directory: Path, steps: int) -> None:
    """Learn, and tell."""
    spec = msgspec.json.decode((directory / f"{network}.json").read_bytes(), type=StepSpec)
    stepper = _opened(learner, network, directory, spec)
    rng = rng_for(7, "data")
    x = rng.normal(size=(_BATCHES, spec.batch, *spec.input.shape)).astype(np.float32)
    if learner == "torch" and network == "conv":
        x = np.ascontiguousarray(np.moveaxis(x, -1, 2))  # it wants channels first
    y = rng.integers(0, 2, (_BATCHES, spec.batch, 1)).astype(np.float32)
    weight = np.ones(spec.batch, np.float32)
    plan = LocalPlan(epochs=1, batch_size=spec.batch, learning_rate=0.01, momentum=0.9, clip_norm=1.0, proximal_mu=0.1)
    weights = [rng.normal(0, 0.05, each.shape).astype(np.float32) for each in stepper.weights()]
    stepper.load(weights, plan)
    stepper.step(x[0], y[0], weight)
    print("began", flush=True)
    taken_ms = []
    for step in range(steps):
        start_s = now_s()
        stepper.step(x[step % _BATCHES], y[step % _BATCHES], weight)
        taken_ms.append(1e3 * (now_s() - start_s))
    print(statistics.median(taken_ms), flush=True)
    sys.stdin.read()


def _opened(learner: str, network: str, directory: Path, spec: StepSpec) -> Stepper:
    if learner == "litert":
        from edgebench.federated.litert_stepper import LiteRtStepper

        return LiteRtStepper(directory / f"{network}.tflite")
    if learner == "keras":
        from edgebench.federated.keras_stepper import KerasStepper

        return KerasStepper(directory / f"{network}.keras", spec.loss)
    import torch

    from edgebench.federated.torch_stepper import TorchStepper

    torch.set_num_threads(1)
    return TorchStepper(_recurrent() if network == "lstm" else _convolutional(), spec.loss)


def _recurrent() -> nn.Module:
    from torch import nn

    class Recurrent(nn.Module):
        """What it gives after the last step, as a probability."""

        def __init__(self) -> None:
            super().__init__()
            self.lstm = nn.LSTM(76, 16, batch_first=True)
            self.dense = nn.Linear(16, 1)

        def forward(self, x: Any) -> Any:
            every, _ = self.lstm(x)
            return self.dense(every[:, -1]).sigmoid()

    return Recurrent()


def _convolutional() -> nn.Module:
    from torch import nn

    layers: list[nn.Module] = []
    for taken, given in ((3, 16), (16, 32), (32, 32)):
        layers += [nn.Conv2d(taken, given, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(512, 10), nn.Softmax(dim=1))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], Path(sys.argv[3]), int(sys.argv[4]))
