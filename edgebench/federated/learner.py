"""Learning on a client's own data: the loop that every runtime shares, and what a training step has to offer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Protocol

import msgspec
import numpy as np
from numpy.typing import NDArray

from edgebench.errors import ModelError
from edgebench.inference.spec import TensorSpec
from edgebench.seeds import rng_for
from edgebench.tasks.task import Loss

Weights = Sequence[NDArray[np.float32]]


class StepSpec(msgspec.Struct, frozen=True):
    """What the training step in a file (`step.tflite`; this is `step.json`) takes.

    names, shapes: of the trainable weights, in their order. batch: samples a step. input: one of them. label_shape: of
    a sample's label.
    """

    names: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]
    batch: int
    input: TensorSpec
    label_shape: tuple[int, ...]
    loss: Loss


class LocalPlan(msgspec.Struct, frozen=True):
    """How a client learns. clip_norm: the largest norm of a gradient over all weights; 0: any.

    proximal_mu: what a distance from the weights that were sent costs (FedProx); 0: nothing.
    """

    epochs: int
    batch_size: int
    learning_rate: float
    momentum: float = 0.0
    clip_norm: float = 0.0
    proximal_mu: float = 0.0


class LocalFit(msgspec.Struct, frozen=True):
    """What came of it. loss: the mean over the last epoch's samples, each as it was met; NaN where there are none."""

    weights: list[NDArray[np.float32]]
    loss: float
    steps: int
    examples: int


class Rows(Protocol):
    """Samples that can be read a few at a time: an array, in memory or mapped from a file."""

    def __len__(self) -> int: ...

    def __getitem__(self, rows: NDArray[np.int64], /) -> NDArray[Any]: ...


class Stepper(Protocol):
    """A model that takes training steps. One serves many clients, one after another; it belongs to one thread.

    A step is, with g = ∇loss + proximal_mu·(w − w₀), scaled down to clip_norm where its norm is larger:
    v ← momentum·v + g, w ← w − learning_rate·v. The loss is Σ weight·lossᵢ / Σ weight, of the model as it infers
    (nothing is dropped out), and without what layers may add to it, such as regularisation.
    """

    @property
    def names(self) -> tuple[str, ...]:
        """Of the weights, in their order."""
        ...

    def load(self, weights: Weights, plan: LocalPlan) -> None:
        """Begin at these weights w₀, with v = 0. Raises ModelError where they or the plan do not fit."""
        ...

    def step(self, x: NDArray[Any], y: NDArray[np.float32], weight: NDArray[np.float32]) -> float:
        """One step on x [batch, *shape], y [batch, *label], weight [batch]; the loss before it."""
        ...

    def weights(self) -> list[NDArray[np.float32]]:
        """The weights as they are now: copies."""
        ...


def fit(stepper: Stepper, weights: Weights, x: Rows, y: Rows, plan: LocalPlan, seed: int) -> LocalFit:
    """Learn from samples x [sample, *shape] and labels y [sample, *label].

    The same seed gives the same batches, whatever the runtime. Losses and weights may be infinite or NaN where the
    learning rate was too large. Raises ModelError, see `Stepper.load`.
    """
    stepper.load(weights, plan)
    steps, loss = 0, float("nan")
    for epoch in range(1, plan.epochs + 1):
        losses = []
        for rows, weight in local_batches(len(x), plan.batch_size, epoch, seed):
            losses.append(stepper.step(x[rows], y[rows], weight) * float(weight.sum()))
        steps += len(losses)
        loss = sum(losses) / len(x) if losses else loss
    return LocalFit(stepper.weights(), loss, steps, len(x))


def local_batches(
    count: int, batch_size: int, epoch: int, seed: int
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float32]]]:
    """The batches of an epoch over `count` samples: row numbers int64 [batch], and weights float32 [batch].

    Each sample comes once with weight 1. The last batch is filled up with samples of weight 0.
    """
    order = rng_for(seed, "local-epoch", epoch).permutation(count)
    for start in range(0, count, batch_size):
        rows = order[start : start + batch_size]
        weight = np.zeros(batch_size, np.float32)
        weight[: len(rows)] = 1.0
        yield np.resize(rows, batch_size), weight


def unique_names(paths: Iterable[str]) -> tuple[str, ...]:
    """The paths, the second of a kind with `#2` at its end, and so on: layers of a user may share a name."""
    seen: Counter[str] = Counter()
    names = []
    for path in paths:
        seen[path] += 1
        names.append(path if seen[path] == 1 else f"{path}#{seen[path]}")
    return tuple(names)


def check_weights(weights: Weights, names: Sequence[str], shapes: Sequence[tuple[int, ...]]) -> None:
    """Raises ModelError where weights are not of these shapes."""
    if len(weights) != len(shapes):
        raise ModelError(f"{len(weights)} arrays of weights, where the model has {len(shapes)}")
    for name, shape, weight in zip(names, shapes, weights, strict=True):
        if weight.shape != tuple(shape):
            raise ModelError(f"weights '{name}' are {list(weight.shape)}, where the model has {list(shape)}")
