"""How large samples and decisions are, where no run tells: by the form of a task's data."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from edgebench.inference.spec import TensorSpec
from edgebench.simulation.service_times import Cost, Ints, UntoldError
from edgebench.simulation.wire_sizes import decision_bytes, sample_bytes
from edgebench.tasks import task_named

_ANY = 0
"""Seed: the form of data does not depend on it."""


class _Form(NamedTuple):
    """outputs: how many values a decision has; None where the task does not tell."""

    spec: TensorSpec
    outputs: int | None


def sample_sizes(task: str, data: str | None) -> Ints:
    """The bytes of a sample that is not compressed [1]. Raises EdgebenchError."""
    return np.array([sample_bytes(_form(task, data).spec)], np.int64)


def decision_sizes(reply: Cost, decider: str, data: str | None, *, of_cloud: bool, of_chain: bool) -> Ints:
    """The bytes of a decision that a node makes [1]. Raises UntoldError where the task does not tell."""
    outputs = outputs_of(reply, data)
    return np.array([decision_bytes(decider, outputs, of_cloud=of_cloud, of_chain=of_chain)], np.int64)


def outputs_of(cost: Cost, data: str | None) -> int:
    """How many values the models of a cost's task give. Raises UntoldError where the task does not tell."""
    outputs = _form(cost.task, data).outputs
    if outputs is None:
        raise UntoldError(f"nothing is known of {cost.told}: its loss does not tell how many outputs there are")
    return outputs


@lru_cache(maxsize=64)
def _form(task: str, data: str | None) -> _Form:
    described = task_named(task)
    dataset = described.load(None if data is None else Path(data), seed=_ANY)
    return _Form(dataset.spec, _outputs(getattr(described, "loss", None), dataset.train.y))


def _outputs(loss: object, labels: NDArray[np.float32]) -> int | None:
    """By what learning makes small. labels: float32 [sample, label]."""
    if loss in ("binary_crossentropy", "mean_squared_error"):
        return int(labels.shape[1])
    return int(labels.max()) + 1 if loss == "sparse_categorical_crossentropy" else None
