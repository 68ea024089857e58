"""A task of a user's own, whose every answer is checked where it comes in.

What it raises or gives wrongly is told in one line that names the task, what is wrong, and the mend.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import combinations
from numbers import Real
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edgebench.errors import EdgebenchError, TaskError, told
from edgebench.tasks.task import Baseline, Dataset, Epoch, ModelInfo, Size, Split, Task

if TYPE_CHECKING:
    import keras
    import torch


_NUMERIC = "biuf"


class OwnTask:
    """The task found at `path` (`module:attribute`). Implements `Task`: what `task` gives, if it is sound.

    Each method raises TaskError with what is wrong with it, and any EdgebenchError that the task raises itself.
    """

    def __init__(self, path: str, task: Task) -> None:
        self._path = path
        self._task = task
        self.name: str = task.name
        self.scenario: str = task.scenario
        self.metric: str = task.metric
        self.models: Mapping[Size, ModelInfo] = task.models

    def __getattr__(self, part: str) -> Any:
        """What a task may lack: `loss`, `right` and `sources`."""
        found = getattr(self._task, part)
        return self._judge if part == "right" else found

    def load(self, data: Path | None, *, seed: int) -> Dataset:
        """See `Task.load`."""
        with self._blamed("load"):
            dataset = self._task.load(data, seed=seed)
        self._refuse("load gave", _problem_of(dataset))
        return dataset

    def fit(
        self,
        size: Size,
        dataset: Dataset,
        *,
        seed: int,
        epochs: int | None = None,
        examples: int | None = None,
        progress: Callable[[Epoch], None] | None = None,
    ) -> keras.Model | torch.nn.Module:
        """See `Task.fit`."""
        import keras

        with self._blamed("fit"):
            model: Any = self._task.fit(size, dataset, seed=seed, epochs=epochs, examples=examples, progress=progress)
        if isinstance(model, keras.Model):
            self._refuse("fit gave", _problem_of_keras(model, dataset))
        elif "torch" in sys.modules and isinstance(model, sys.modules["torch"].nn.Module):
            with self._blamed("the module that fit gave"):
                outputs = _tried(model, dataset)
            self._refuse("fit gave", _problem_of_torch(outputs))
        else:
            self._refuse("fit gave", f"{_kind(model)}, neither a Keras model nor a torch module (return the model)")
        return model

    def score(self, outputs: NDArray[np.float32], labels: NDArray[np.float32]) -> dict[str, float]:
        """See `Task.score`."""
        with self._blamed("score"):
            found: Any = self._task.score(outputs, labels)
        self._refuse("score gave", self._problem_of_metrics(found, "a number", _is_number))
        return {name: float(value) for name, value in found.items()}

    def intervals(
        self,
        outputs: NDArray[np.float32],
        labels: NDArray[np.float32],
        *,
        seed: int,
        group: NDArray[np.int64] | None = None,
    ) -> dict[str, tuple[float, float]]:
        """See `Task.intervals`."""
        with self._blamed("intervals"):
            found: Any = self._task.intervals(outputs, labels, seed=seed, group=group)
        self._refuse("intervals gave", self._problem_of_metrics(found, "a pair of numbers", _is_pair))
        return {name: (float(low), float(high)) for name, (low, high) in found.items()}

    def baseline(self, dataset: Dataset, *, seed: int) -> Baseline:
        """See `Task.baseline`."""
        with self._blamed("baseline"):
            found: Any = self._task.baseline(dataset, seed=seed)
        if not isinstance(found, Baseline):
            self._refuse("baseline gave", f"{_kind(found)}, not a Baseline")
        for metrics in (found.metrics, *found.beside.values()):
            self._refuse("baseline gave", self._problem_of_metrics(metrics, "a number", _is_number))
        return found

    def _judge(self, outputs: NDArray[np.float32], labels: NDArray[np.float32]) -> NDArray[np.float32]:
        with self._blamed("right"):
            found = np.asarray(self._task.right(outputs, labels))
        if found.shape != (len(outputs),) or found.dtype.kind not in _NUMERIC:
            self._refuse("right gave", f"{_array(found)}, not a number for each of {len(outputs)} decisions")
        return found.astype(np.float32)

    @contextmanager
    def _blamed(self, part: str) -> Iterator[None]:
        try:
            yield
        except EdgebenchError:
            raise
        except Exception as error:
            raise TaskError(f"task '{self._path}': {part} failed: {told(error)}") from error

    def _refuse(self, what: str, problem: str | None) -> None:
        if problem is not None:
            raise TaskError(f"task '{self._path}': {what} {problem}")

    def _problem_of_metrics(self, found: Any, kind: str, sound: Callable[[Any], bool]) -> str | None:
        if not isinstance(found, Mapping):
            return f"{_kind(found)}, not {kind} for each metric, by name"
        wrong = next((name for name, value in found.items() if not sound(value)), None)
        if wrong is not None:
            return f"{_kind(found[wrong])} for '{wrong}', not {kind}"
        return None if self.metric in found else f"no '{self.metric}', which is what the task's `metric` names"


def own_task(path: str, found: Any) -> Task:
    """The object at `module:attribute`, if it is a task; raises TaskError."""
    if isinstance(found, type):
        raise TaskError(f"task '{path}': a class, not a task (write {found.__name__}() there)")
    try:
        lacking = [part for part in _PARTS if not hasattr(found, part)]
        if not lacking:
            if not isinstance(found.models, Mapping):
                raise TaskError(
                    f"task '{path}': models is {_kind(found.models)}, not a mapping from 'light' or 'heavy'"
                )
            return OwnTask(path, found)
    except EdgebenchError:
        raise
    except Exception as error:
        raise TaskError(f"task '{path}': one of its parts cannot be had: {told(error)}") from error
    # A `Classifier` derives further parts from what it has to be given.
    named = [part for part in _CLASSIFIER_PARTS if not hasattr(found, part)] if hasattr(found, "build") else []
    raise TaskError(
        f"task '{path}': not a task, it lacks {', '.join(named or lacking)} (see edgebench.tasks.task.Task)"
    )


_PARTS = ("name", "scenario", "metric", "models", "load", "fit", "score", "intervals", "baseline")
_CLASSIFIER_PARTS = ("name", "classes")


def _problem_of(dataset: Any) -> str | None:
    if not isinstance(dataset, Dataset):
        return f"{_kind(dataset)}, not a Dataset"
    if not isinstance(dataset.beside, Mapping):
        return f"beside as {_kind(dataset.beside)}, not a mapping from names to splits"
    own = {"train": dataset.train, "valid": dataset.valid, "test": dataset.test}
    for name, split in {**own, **dataset.beside}.items():
        problem = _problem_of_split(split)
        if problem is not None:
            return f"{name}{problem}"
        for part in ("x", "y"):
            given, first = getattr(split, part), getattr(dataset.train, part)
            if (given.shape[1:], given.dtype) != (first.shape[1:], first.dtype):
                return f"{name}.{part} of {_array(given)} beside train.{part} of {_array(first)}"
    if dataset.natural_key is not None and dataset.train.key is None:
        return f"natural_key '{dataset.natural_key}' and no train.key (give the key of each sample)"
    for (name, split), (other, further) in combinations(own.items(), 2):
        shared = np.intersect1d(split.group, further.group)
        if len(shared):
            why = "figures on what was learned from would be too good: keep a group in one split"
            return f"group {shared[0]} in {name} and in {other} ({why})"
    return None


def _problem_of_split(split: Any) -> str | None:
    if not isinstance(split, Split):
        return f", {_kind(split)}, not a Split"
    for name in ("x", "y", "group", "key"):
        array = getattr(split, name)
        if array is None and name == "key":
            continue
        if not isinstance(array, np.ndarray):
            return f".{name}, {_kind(array)}, not a NumPy array"
        problem = _problem_of_array(name, array)
        if problem is not None:
            return f".{name} {problem}"
        if len(array) != len(split.x):
            return f".{name} of {len(array)} samples, where x has {len(split.x)}"
    return None


def _problem_of_array(name: str, array: np.ndarray[Any, Any]) -> str | None:
    of = f"of {_array(array)}"
    if name == "x" and (array.ndim < 2 or array.dtype.kind not in _NUMERIC):
        return f"{of}, not numbers [sample, …]"
    if name == "y" and array.ndim != 2:
        return f"{of}, not [sample, label] (y[:, None], for one label)"
    if name == "y" and array.dtype != np.float32:
        return f"{of}, not float32 (y.astype(np.float32))"
    if name in {"group", "key"} and (array.ndim != 1 or array.dtype.kind not in "iu"):
        return f"{of}, not whole numbers [sample]"
    if not len(array):
        return "without a sample"
    if name == "x" and array.dtype.kind == "f" and not np.isfinite(array).all():
        return "with values that are not finite (fill them in, or leave those samples out)"
    return None


def _problem_of_keras(model: keras.Model, dataset: Dataset) -> str | None:
    import keras

    try:
        inputs = model.inputs
    except (AttributeError, ValueError):  # it depends on what kind of model it is
        inputs = None
    if not inputs:
        return "a Keras model without fixed inputs (make it of keras.Input and layers)"
    if len(inputs) > 1:
        return f"a Keras model with {len(inputs)} inputs (it takes samples)"
    spec = dataset.spec
    takes = (str(inputs[0].dtype), tuple(inputs[0].shape[1:]))
    if takes != (spec.dtype, spec.shape):
        named = (
            f"samples are {spec.dtype} {list(spec.shape)} (keras.Input({spec.shape}, dtype='{spec.dtype}'), or other x)"
        )
        return f"a model of {takes[0]} {list(takes[1])}, {named}"
    given = model.compute_output_spec(keras.KerasTensor((None, *spec.shape), spec.dtype))
    if not isinstance(given, keras.KerasTensor):
        return f"a Keras model that gives {_kind(given)}, not one tensor [batch, output]"
    if len(given.shape) != 2 or given.shape[1] is None:
        return f"a model that gives {list(given.shape)}, not [batch, output]"
    return None


def _tried(module: torch.nn.Module, dataset: Dataset) -> Any:
    """What the module gives for two samples."""
    import torch

    module.eval()
    with torch.no_grad():
        return module(torch.from_numpy(np.zeros((2, *dataset.spec.shape), dataset.spec.dtype)))


def _problem_of_torch(outputs: Any) -> str | None:
    import torch

    if not isinstance(outputs, torch.Tensor):
        return f"a module that gives {_kind(outputs)}, not a tensor [sample, output]"
    if outputs.ndim != 2 or len(outputs) != 2 or outputs.dtype != torch.float32:
        return f"a module that gives {outputs.dtype} {list(outputs.shape)} for 2 samples, not float32 [sample, output]"
    return None


def _is_number(value: Any) -> bool:
    return isinstance(value, Real | np.number) or (isinstance(value, np.ndarray) and value.ndim == 0)


def _is_pair(value: Any) -> bool:
    return isinstance(value, Sequence | np.ndarray) and len(value) == 2 and all(map(_is_number, value))


def _array(array: np.ndarray[Any, Any]) -> str:
    return f"{array.dtype} {list(array.shape)}"


def _kind(value: Any) -> str:
    return "None" if value is None else f"a {type(value).__name__}"
