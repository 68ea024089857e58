"""Training steps with Keras, on whatever backend the process has."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import ops
from numpy.typing import NDArray

from edgebench.errors import ModelError
from edgebench.federated.learner import LocalPlan, Weights, check_weights, unique_names
from edgebench.tasks.task import Loss, UserLoss

_LEAST_PROBABILITY = 1e-7
"""Probabilities are kept so far from 0 and 1, as Keras does."""


class KerasStepper:
    """A `.keras` file that learns. Implements `Stepper`.

    Layers of a task's own have to be imported before.
    """

    def __init__(self, path: Path, loss: Loss | UserLoss) -> None:
        """Raises ModelError where the file is no model."""
        model = opened(path)
        self._variables = model.trainable_variables
        self.names = unique_names(variable.path for variable in self._variables)
        self._shapes = [tuple(variable.shape) for variable in self._variables]
        self._update = _Update()
        self._update.build(self._variables)
        self._trained = _Trained(model, loss if callable(loss) else LOSSES[loss])
        # Compiling a recurrent step with XLA takes longer than a client trains.
        self._trained.compile(self._update, jit_compile=False)

    def load(self, weights: Weights, plan: LocalPlan) -> None:
        """See `Stepper`."""
        check_weights(weights, self.names, self._shapes)
        for variable, weight in zip(self._variables, weights, strict=True):
            variable.assign(weight)
        self._update.begin(plan)

    def step(self, x: NDArray[Any], y: NDArray[np.float32], weight: NDArray[np.float32]) -> float:
        """See `Stepper`."""
        self._trained.reset_metrics()  # or the loss is the mean over all steps so far
        return float(self._trained.train_on_batch(x, y, sample_weight=weight, return_dict=True)["loss"])

    def weights(self) -> list[NDArray[np.float32]]:
        """See `Stepper`."""
        return [np.array(ops.convert_to_numpy(variable)) for variable in self._variables]


def opened(path: Path) -> Any:
    """The Keras model in a file, which may hold layers and weights but no code. Raises ModelError."""
    try:
        return keras.models.load_model(path, compile=False, safe_mode=True)
    except (ValueError, TypeError, OSError, KeyError) as error:
        raise ModelError(f"{path}: not a Keras model that loads safely: {' '.join(str(error).split())}") from error


def _binary_crossentropy(y: Any, given: Any) -> Any:
    p = ops.clip(given, _LEAST_PROBABILITY, 1 - _LEAST_PROBABILITY)
    return -(y * ops.log(p) + (1 - y) * ops.log(1 - p))


def _sparse_categorical_crossentropy(y: Any, given: Any) -> Any:
    p = ops.clip(given, _LEAST_PROBABILITY, 1 - _LEAST_PROBABILITY)
    chosen = ops.one_hot(ops.cast(y[:, 0], "int32"), given.shape[-1])
    return -ops.sum(chosen * ops.log(p), axis=-1, keepdims=True)


def _mean_squared_error(y: Any, given: Any) -> Any:
    return ops.square(y - given)


def _by_sample(loss: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    def mean(y: Any, given: Any) -> Any:
        each = loss(y, given)
        return ops.mean(each, axis=tuple(range(1, len(each.shape))))

    return mean


LOSSES: dict[Loss, Callable[[Any, Any], Any]] = {
    "binary_crossentropy": _by_sample(_binary_crossentropy),
    "sparse_categorical_crossentropy": _by_sample(_sparse_categorical_crossentropy),
    "mean_squared_error": _by_sample(_mean_squared_error),
}
"""Losses [batch] of outputs [batch, *output] for labels [batch, *label]: probabilities, where it is an entropy."""


class _Trained(keras.Model):
    """A model in training that computes what it computes when it infers."""

    def __init__(self, model: Any, loss: Callable[[Any, Any], Any]) -> None:
        super().__init__(name="trained")
        self._model = model
        self._each = loss

    def call(self, x: Any) -> Any:
        return self._model(x, training=False)

    def compute_loss(
        self, x: Any = None, y: Any = None, y_pred: Any = None, sample_weight: Any = None, training: bool = True
    ) -> Any:
        labels, weight = ops.convert_to_tensor(y), ops.convert_to_tensor(sample_weight)  # torch gets arrays
        return ops.sum(weight * self._each(labels, y_pred)) / ops.sum(weight)


class _Update(keras.optimizers.Optimizer):
    """The update of `Stepper`; its settings are variables, so that a change compiles nothing anew."""

    def __init__(self) -> None:
        super().__init__(learning_rate=0.0, name="update")

    def build(self, variables: Sequence[Any]) -> None:
        super().build(variables)
        self._momentum, self._clip_norm, self._mu = (
            self.add_variable((), dtype="float32", name=name) for name in ("momentum", "clip_norm", "mu")
        )
        self._velocities, self._anchors = self.add_optimizer_variables(variables, ["velocity", "anchor"])

    def begin(self, plan: LocalPlan) -> None:
        """Take the weights as they are for w₀, and the settings of a plan."""
        self.learning_rate = plan.learning_rate
        self._momentum.assign(plan.momentum)
        self._clip_norm.assign(plan.clip_norm)
        self._mu.assign(plan.proximal_mu)
        for variable, velocity, anchor in zip(self._trainable_variables, self._velocities, self._anchors, strict=True):
            anchor.assign(variable)
            velocity.assign(ops.zeros_like(velocity))

    def apply(self, grads: Sequence[Any], trainable_variables: Sequence[Any] | None = None) -> None:
        """See `Stepper`."""
        variables = self._trainable_variables
        pulled = [
            self._mu * (w - anchor) + (0 if gradient is None else ops.convert_to_tensor(gradient))
            for gradient, w, anchor in zip(grads, variables, self._anchors, strict=True)
        ]
        norm = ops.sqrt(sum(ops.sum(ops.square(g)) for g in pulled))
        clipped = ops.logical_and(self._clip_norm > 0, norm > self._clip_norm)
        scale = ops.where(clipped, self._clip_norm / norm, 1.0)
        for g, w, velocity in zip(pulled, variables, self._velocities, strict=True):
            velocity.assign(self._momentum * velocity + scale * g)
            w.assign(w - self.learning_rate * velocity)
