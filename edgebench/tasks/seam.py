"""What a task gives, checked where it comes in, since a task may be the user's own.

What a user's task raises or gives wrongly is told in one line that names the task, and the line in its file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgebench.errors import EdgebenchError, TaskError, told
from edgebench.tasks.task import Dataset, Epoch, Size, Split, Task

if TYPE_CHECKING:
    import keras
    import torch


def load(name: str, task: Task, data: Path | None, *, seed: int) -> Dataset:
    """`task.load`, checked. name: what the task was asked for by. Raises TaskError, and what `load` raises itself."""
    with blamed(name, "load"):
        dataset = task.load(data, seed=seed)
    problem = _problem_of(dataset)
    if problem is not None:
        raise TaskError(f"task '{name}': load gave {problem}")
    return dataset


def fit(
    name: str,
    task: Task,
    size: Size,
    dataset: Dataset,
    *,
    seed: int,
    epochs: int | None,
    examples: int | None,
    progress: Callable[[Epoch], None] | None,
) -> keras.Model | torch.nn.Module:
    """`task.fit`, checked. Raises TaskError."""
    import keras

    with blamed(name, "fit"):
        model: Any = task.fit(size, dataset, seed=seed, epochs=epochs, examples=examples, progress=progress)
    if isinstance(model, keras.Model):
        taken, expected = [tuple(each.shape[1:]) for each in model.inputs], [dataset.spec.shape]
        if len(taken) != 1 or not _fits(taken[0], dataset.spec.shape):
            raise TaskError(f"task '{name}': fit gave a model of {_shapes(taken)}, samples are {_shapes(expected)}")
        given = [tuple(each.shape) for each in model.outputs]
        if len(given) != 1 or len(given[0]) != 2 or given[0][1] is None:
            raise TaskError(f"task '{name}': fit gave a model that gives {_shapes(given)}, not [batch, output]")
    elif not callable(getattr(model, "state_dict", None)):
        raise TaskError(f"task '{name}': fit gave {_kind(model)}, neither a Keras model nor a torch module")
    return model


@contextmanager
def blamed(name: str, part: str) -> Iterator[None]:
    """Whatever a user's own task raises in this part of it becomes a TaskError; of a built-in one it is our mistake."""
    try:
        yield
    except EdgebenchError:
        raise
    except Exception as error:
        if ":" not in name:
            raise
        raise TaskError(f"task '{name}': {part} failed: {told(error)}") from error


def _problem_of(dataset: Any) -> str | None:
    if not isinstance(dataset, Dataset):
        return f"{_kind(dataset)}, not a Dataset"
    splits = {"train": dataset.train, "valid": dataset.valid, "test": dataset.test, **dataset.beside}
    for name, split in splits.items():
        problem = _problem_of_split(split)
        if problem is not None:
            return f"{name}.{problem}"
    train = dataset.train
    for name, split in splits.items():
        for part in ("x", "y"):
            own, other = getattr(split, part), getattr(train, part)
            if (own.shape[1:], own.dtype) != (other.shape[1:], other.dtype):
                return f"{name}.{part} of {_array(own)} beside train.{part} of {_array(other)}"
    return None


def _problem_of_split(split: Split) -> str | None:
    for name, dimensions in (("x", None), ("y", 2), ("group", 1), ("key", 1)):
        array = getattr(split, name)
        if array is None and name == "key":
            continue
        if not isinstance(array, np.ndarray):
            return f"{name}, {_kind(array)}, not a NumPy array"
        if dimensions is not None and array.ndim != dimensions:
            return f"{name} of {_array(array)}, not [sample{', label' * (dimensions - 1)}]"
        if not len(array):
            return f"{name} without a sample"
        if len(array) != len(split.x):
            return f"{name} of {len(array)} samples, where x has {len(split.x)}"
    if split.y.dtype != np.float32:
        return f"y of {_array(split.y)}, not float32"
    return None


def _fits(taken: tuple[int | None, ...], shape: tuple[int, ...]) -> bool:
    return len(taken) == len(shape) and all(own in (None, size) for own, size in zip(taken, shape, strict=True))


def _array(array: np.ndarray[Any, Any]) -> str:
    return f"{array.dtype} {list(array.shape)}"


def _shapes(shapes: list[tuple[Any, ...]]) -> str:
    return ", ".join(str(list(shape)) for shape in shapes)


def _kind(value: Any) -> str:
    return "None" if value is None else f"a {type(value).__name__}"
