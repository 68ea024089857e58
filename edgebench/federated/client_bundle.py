"""The bundle that a federated client needs to learn a model on: a folder that the cloud makes and clients fetch.

`bundle.json` (a `BundleInfo`), the training step as a LiteRT graph (`step.tflite`, `step.json`) or the model
(`model.keras`), and the training data with the samples of each client (`partition.PARTITION_FILES`).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any

import msgspec

from edgebench.federated.client import BuiltInClient
from edgebench.federated.content import Parcel
from edgebench.federated.learner import Stepper
from edgebench.federated.partition import PartitionFile
from edgebench.tasks import task_named
from edgebench.tasks.task import Loss

BUNDLE = "bundle.json"
MODEL = "model.keras"
STEP = "step.tflite"
STEP_SPEC = "step.json"
KERAS_BACKENDS = {"torch": "torch", "keras": "tensorflow"}
"""What Keras must run on in a process, by runtime of the bundle; LiteRT needs no Keras."""
INITIAL = "initial.parcel"
"""The weights that the first round begins with; it lies beside the bundle, and the cloud keeps it."""


class BundleInfo(msgspec.Struct, frozen=True):
    """What is in a bundle, and how the training data lies on the clients.

    task: its module may define layers. loss: None for the task's own. files: what a client fetches. samples, groups: of
    each client, in their order.
    """

    task: str
    loss: Loss | None
    runtime: str
    files: tuple[str, ...]
    samples: tuple[int, ...]
    groups: tuple[int, ...]


def read_info(directory: Path) -> BundleInfo:
    """What the bundle in a folder says of itself."""
    return msgspec.json.decode((directory / BUNDLE).read_bytes(), type=BundleInfo)


def open_stepper(directory: Path, info: BundleInfo) -> Stepper:
    """The training step of the bundle in a folder, for the runtime that it was made for. Raises ModelError."""
    # Each brings its framework along, and a device has one of them at most.
    if info.runtime == "litert":
        from edgebench.federated.litert_stepper import LiteRtStepper

        return LiteRtStepper(directory / STEP)
    task = task_named(info.task)  # whose layers the model may be made of
    loss = info.loss or task.loss
    if info.runtime == "torch":
        from edgebench.federated.torch_stepper import torch_stepper_for_keras

        return torch_stepper_for_keras(directory / MODEL, loss)
    from edgebench.federated.keras_stepper import KerasStepper

    return KerasStepper(directory / MODEL, loss)


@cache
def open_clients(directory: Path) -> BuiltInClient:
    """All clients of the bundle in a folder; in one process there is one of it."""
    info = read_info(directory)
    return BuiltInClient(partial(open_stepper, directory, info), PartitionFile(directory))


def engine_client(node: int, clients: int, settings: dict[str, Any]) -> Callable[[Parcel], Parcel]:
    """One client, for the engines of Flower. settings: `bundle_dir`, and `seed`, of the run."""
    del clients  # the bundle knows
    return partial(open_clients(Path(settings["bundle_dir"])).answer, node=node, seed=settings["seed"])
