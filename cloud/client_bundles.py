"""Making the bundle by which federated clients learn a model on (see `edgebench.federated.client_bundle`)."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import keras
import msgspec
import numpy as np
from numpy.typing import NDArray

from cloud.export import Converter, StepConversion
from cloud.jobs import BundleOrder
from edgebench.errors import ModelError
from edgebench.federated.client_bundle import BUNDLE, INITIAL, MODEL, STEP, STEP_SPEC, BundleInfo
from edgebench.federated.content import Array, Arrays, Head, pack, write_parcel
from edgebench.federated.learner import unique_names
from edgebench.federated.partition import PARTITION_FILES, partition, write_partitions
from edgebench.tasks.task import Split, Task


def write_bundle(
    task: Task, keras_file: Path, train: Split, order: BundleOrder, seed: int, converter: Converter | None
) -> BundleInfo:
    """Write the bundle of a trained model of a task that has a loss. Raises DataError where its data cannot be
    partitioned so, ModelError where its training step does not convert."""
    directory = Path(order.out_dir)
    directory.mkdir(parents=True, exist_ok=True)
    parts = partition(train, order.partition, order.clients, seed)
    write_partitions(train, parts, directory)
    loss = None if callable(task.loss) else task.loss
    if order.runtime == "litert":
        if converter is None or loss is None:
            raise ModelError("a training step takes a converter, and a loss that it knows")
        out = str(directory / STEP)
        conversion = StepConversion(task=task.name, model=str(keras_file), loss=loss, batch=order.batch_size, out=out)
        converter.convert_step(conversion)
        files: tuple[str, ...] = (STEP, STEP_SPEC, *PARTITION_FILES)
    else:
        shutil.copyfile(keras_file, directory / MODEL)
        files = (MODEL, *PARTITION_FILES)
    write_weights(directory / INITIAL, weights_of(keras.models.load_model(keras_file, compile=False, safe_mode=True)))
    info = BundleInfo(
        task=task.name,
        loss=loss,
        runtime=order.runtime,
        files=files,
        samples=tuple(map(len, parts)),
        groups=tuple(len(np.unique(train.group[rows])) for rows in parts),
    )
    (directory / BUNDLE).write_bytes(msgspec.json.format(msgspec.json.encode(info)))
    return info


def weights_of(model: keras.Model) -> dict[str, NDArray[np.float32]]:
    """The trainable weights of a model by the paths of their variables, in the model's order."""
    return {name: keras.ops.convert_to_numpy(variable) for name, variable in _variables(model).items()}


def write_weights(path: Path, weights: dict[str, NDArray[np.float32]]) -> None:
    """Write weights as the parcel of a global model."""
    arrays = Arrays({name: Array.of(weight) for name, weight in weights.items()})
    write_parcel(path, pack(Head(message_id="", kind="model"), {"arrays": arrays}))


def set_weights(model: keras.Model, weights: dict[str, NDArray[np.float32]]) -> None:
    """Give a model these trainable weights. Raises ModelError where they are another model's."""
    variables = _variables(model)
    if variables.keys() != weights.keys():
        raise ModelError(f"weights of another model: {', '.join(sorted(variables.keys() ^ weights.keys())[:3])}, …")
    for name, variable in variables.items():
        if tuple(variable.shape) != weights[name].shape:
            raise ModelError(f"weights of another model: {name} has shape {weights[name].shape}, not {variable.shape}")
        variable.assign(weights[name])


def _variables(model: keras.Model) -> dict[str, Any]:
    names = unique_names(variable.path for variable in model.trainable_variables)
    return dict(zip(names, model.trainable_variables, strict=True))
