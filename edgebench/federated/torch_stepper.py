"""Training steps with PyTorch, for a module of one's own or a Keras model on its torch backend."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from edgebench.errors import ModelError
from edgebench.federated.learner import LocalPlan, Weights, check_weights, unique_names
from edgebench.tasks.task import Loss, UserLoss

LossFunction = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""Losses [batch] from outputs [batch, *output] and labels float32 [batch, *label]."""

_LEAST_PROBABILITY = 1e-7
"""As in `edgebench.federated.keras_stepper`."""


class TorchStepper:
    """A module that learns, in the mode (`train`, `eval`) that it is in. Implements `Stepper`.

    The weights are the floating-point entries of its state dict, by name: of parameters that need no gradient, and of
    buffers such as running means, those that the module itself arrives at.
    """

    def __init__(self, module: nn.Module, loss: Loss | LossFunction) -> None:
        self._module = module
        self._loss = loss if callable(loss) else _LOSSES[loss]
        state = module.state_dict(keep_vars=True)
        self._state = {name: entry for name, entry in state.items() if entry.is_floating_point()}
        self.names = tuple(self._state)
        self._device = next(module.parameters()).device
        self._learned = [parameter for parameter in module.parameters() if parameter.requires_grad]
        self._anchors = [torch.zeros_like(parameter) for parameter in self._learned]
        self._velocities = [torch.zeros_like(parameter) for parameter in self._learned]
        self._plan = LocalPlan(epochs=0, batch_size=1, learning_rate=0.0)

    def load(self, weights: Weights, plan: LocalPlan) -> None:
        """See `Stepper`."""
        check_weights(weights, self.names, [tuple(entry.shape) for entry in self._state.values()])
        self._plan = plan
        with torch.no_grad():
            for entry, weight in zip(self._state.values(), weights, strict=True):
                entry.copy_(torch.from_numpy(np.array(weight)))
            for parameter, anchor, velocity in zip(self._learned, self._anchors, self._velocities, strict=True):
                anchor.copy_(parameter)
                velocity.zero_()

    def step(self, x: NDArray[Any], y: NDArray[np.float32], weight: NDArray[np.float32]) -> float:
        """See `Stepper`."""
        samples, labels, weights = (torch.from_numpy(each).to(self._device) for each in (x, y, weight))
        loss = (weights * self._loss(self._module(samples), labels)).sum() / weights.sum()
        gradients = torch.autograd.grad(loss, self._learned, allow_unused=True, materialize_grads=True)
        with torch.no_grad():
            self._update(gradients)
        return float(loss)

    def weights(self) -> list[NDArray[np.float32]]:
        """See `Stepper`."""
        return [entry.detach().cpu().numpy().astype(np.float32) for entry in self._state.values()]

    def _update(self, gradients: tuple[torch.Tensor, ...]) -> None:
        plan = self._plan
        pulled = [
            gradient + plan.proximal_mu * (parameter - anchor)
            for gradient, parameter, anchor in zip(gradients, self._learned, self._anchors, strict=True)
        ]
        norm = torch.sqrt(sum((g.square().sum() for g in pulled), start=torch.zeros((), device=self._device)))
        scale = plan.clip_norm / norm if 0 < plan.clip_norm < norm else 1.0
        for g, parameter, velocity in zip(pulled, self._learned, self._velocities, strict=True):
            velocity.mul_(plan.momentum).add_(scale * g)
            parameter.sub_(plan.learning_rate * velocity)


def torch_stepper_for_keras(path: Path, loss: Loss | UserLoss) -> TorchStepper:
    """The Keras model in a file, whose weights go by the paths of its variables, as with `KerasStepper`.

    Raises ModelError where the file is no model, or Keras runs on another backend (set KERAS_BACKEND=torch).
    """
    import keras

    from edgebench.federated.keras_stepper import opened

    if keras.backend.backend() != "torch":
        raise ModelError(f"Keras runs on {keras.backend.backend()} here; set KERAS_BACKEND=torch")
    module = _KerasModule(opened(path))
    if not callable(loss):
        return TorchStepper(module, loss)
    return TorchStepper(module, lambda given, y: loss(y, given))


class _KerasModule(nn.Module):
    """A Keras model as it infers, with its trainable variables for parameters."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self._infer = partial(model, training=False)  # not as a module: its parameters have other names
        variables = model.trainable_variables
        for name, variable in zip(unique_names(each.path for each in variables), variables, strict=True):
            self.register_parameter(name, variable.value)

    def forward(self, x: torch.Tensor) -> Any:
        return self._infer(x)


def _binary_crossentropy(given: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    p = given.clamp(_LEAST_PROBABILITY, 1 - _LEAST_PROBABILITY)
    return _by_sample(-(y * p.log() + (1 - y) * (1 - p).log()))


def _sparse_categorical_crossentropy(given: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    p = given.clamp(_LEAST_PROBABILITY, 1 - _LEAST_PROBABILITY)
    return -p.gather(1, y[:, :1].long())[:, 0].log()


def _mean_squared_error(given: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    return _by_sample((y - given).square())


def _by_sample(losses: torch.Tensor) -> torch.Tensor:
    return losses.flatten(1).mean(dim=1)


_LOSSES: dict[Loss, LossFunction] = {
    "binary_crossentropy": _binary_crossentropy,
    "sparse_categorical_crossentropy": _sparse_categorical_crossentropy,
    "mean_squared_error": _mean_squared_error,
}
