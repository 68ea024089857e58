"""What may be wrong with what a user's own task gives. Each check gives what is wrong, or None."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from itertools import combinations
from numbers import Real
from typing import TYPE_CHECKING, Any, get_args

import numpy as np
from numpy.typing import NDArray

from edgebench.inference.spec import TensorSpec
from edgebench.tasks.task import Baseline, Dataset, Epoch, ModelInfo, Size, Split, Task

if TYPE_CHECKING:
    import keras
    import torch

_NUMERIC = "biuf"


def problem_of_parts(task: Task) -> str | None:
    """Of what is no method."""
    for part in ("scenario", "metric"):
        if not isinstance(getattr(task, part), str):
            return f"{part} is {kind(getattr(task, part))}, not a string"
    if not isinstance(task.models, Mapping) or not task.models:
        given = "empty" if task.models == {} else kind(task.models)
        return f"models is {given}, not a mapping from 'light', 'heavy' or both to a ModelInfo"
    for size, info in task.models.items():
        if size not in get_args(Size):
            return f"models has {size!r}, which is none of {', '.join(get_args(Size))}"
        if not isinstance(info, ModelInfo):
            return f"models has {kind(info)} for '{size}', not a ModelInfo"
    return None


def problem_of_fit(fit: Callable[..., Any]) -> str | None:
    """Of what `fit` takes."""
    try:
        inspect.signature(fit).bind("light", None, None)
    except TypeError:
        return "fit does not take (size, dataset, options), options being a FitOptions"
    return None


def problem_of_dataset(dataset: Any) -> str | None:
    """Of what `load` gave."""
    if not isinstance(dataset, Dataset):
        return f"{kind(dataset)}, not a Dataset"
    for part, wanted in (("source", str), ("real", bool)):
        if not isinstance(getattr(dataset, part), wanted):
            return f"{part} as {kind(getattr(dataset, part))}, not a {wanted.__name__}"
    if not isinstance(dataset.features, Sequence) or not all(isinstance(name, str) for name in dataset.features):
        return f"features as {kind(dataset.features)}, not a tuple of names"
    if not isinstance(dataset.beside, Mapping):
        return f"beside as {kind(dataset.beside)}, not a mapping from names to splits"
    splits = {"train": dataset.train, "valid": dataset.valid, "test": dataset.test, **dataset.beside}
    for name, split in splits.items():
        problem = _problem_of_split(split)
        if problem is not None:
            return f"{name}{problem}"
        for part in ("x", "y"):
            given, first = getattr(split, part), getattr(dataset.train, part)
            if (given.shape[1:], given.dtype) != (first.shape[1:], first.dtype):
                return f"{name}.{part} of {_array(given)} beside train.{part} of {_array(first)}"
    if dataset.natural_key is not None and dataset.train.key is None:
        return f"natural_key '{dataset.natural_key}' and no train.key (give the key of each sample)"
    return _problem_of_groups({name: np.unique(split.group) for name, split in splits.items()})


def _problem_of_groups(groups: Mapping[str, NDArray[np.int64]]) -> str | None:
    """Further test sets may overlap each other and the test split; nothing may overlap what is learned from."""
    for name, other in combinations(groups, 2):
        if name in {"train", "valid"}:
            shared = np.intersect1d(groups[name], groups[other], assume_unique=True)
            if len(shared):
                why = "figures on what was learned from would be too good: keep a group in one split"
                return f"group {shared[0]} in {name} and in {other} ({why})"
    return None


def _problem_of_split(split: Any) -> str | None:
    if not isinstance(split, Split):
        return f", {kind(split)}, not a Split"
    for name in ("x", "y", "group", "key"):
        array = getattr(split, name)
        if array is None and name == "key":
            continue
        if not isinstance(array, np.ndarray):
            return f".{name}, {kind(array)}, not a NumPy array"
        problem = _problem_of_array(name, array)
        if problem is not None:
            return f".{name} {problem}"
        if len(array) != len(split.x):
            return f".{name} of {len(array)} samples, where x has {len(split.x)}"
    return None


def _problem_of_array(name: str, array: NDArray[Any]) -> str | None:
    of = f"of {_array(array)}"
    if name == "x" and (array.ndim < 2 or array.dtype.kind not in _NUMERIC):
        return f"{of}, not numbers [sample, …]"
    if name == "y" and array.ndim != 2:
        return f"{of}, not [sample, label] (y[:, None], for one label)"
    if name == "y" and array.dtype != np.float32:
        return f"{of}, not float32 (y.astype(np.float32))"
    if name in {"group", "key"} and (array.ndim != 1 or array.dtype != np.int64):
        return f"{of}, not int64 [sample]"
    if not len(array):
        return "without a sample"
    if name == "y" and not np.isfinite(array).all():
        return "with labels that are not finite (leave those samples out)"
    # The least of values with a NaN among them is NaN; `isfinite` of each would take a byte a value.
    if name == "x" and array.dtype.kind == "f" and array.size and not np.isfinite([array.min(), array.max()]).all():
        return "with values that are not finite (fill them in, or leave those samples out)"
    return None


def problem_of_epoch(epoch: Any) -> str | None:
    """Of what `fit` told its `progress`."""
    if not isinstance(epoch, Epoch):
        return f"{kind(epoch)}, not an Epoch"
    for part in ("epoch", "epochs", "loss", "quality"):
        if not _is_number(getattr(epoch, part)):
            return f"an Epoch whose {part} is {kind(getattr(epoch, part))}, not a number"
    return None if isinstance(epoch.picture, bytes) else f"an Epoch whose picture is {kind(epoch.picture)}, not a PNG"


def problem_of_keras(model: keras.Model, spec: TensorSpec) -> str | None:
    """Of a model for samples of this kind."""
    import keras

    inputs = getattr(model, "inputs", None)  # it depends on what kind of model it is
    if not inputs:
        return "a Keras model without fixed inputs (make it of keras.Input and layers)"
    if len(inputs) > 1 or isinstance(getattr(model, "input", None), Mapping | list):
        return "a Keras model with several inputs, or named ones (it takes samples)"
    takes = (str(inputs[0].dtype), tuple(inputs[0].shape[1:]))
    if takes != (spec.dtype, spec.shape):
        mend = f"keras.Input({spec.shape}, dtype='{spec.dtype}'), or other x"
        return f"a model of {takes[0]} {list(takes[1])}, samples are {spec.dtype} {list(spec.shape)} ({mend})"
    given = model.compute_output_spec(keras.KerasTensor((None, *spec.shape), spec.dtype))
    if not isinstance(given, keras.KerasTensor):
        return f"a Keras model that gives {kind(given)}, not one tensor [batch, output]"
    if len(given.shape) != 2 or given.shape[1] is None:
        return f"a model that gives {list(given.shape)}, not [batch, output]"
    if given.dtype != "float32":
        return f"a model that gives {given.dtype}, not float32 (dtype='float32', for its last layer)"
    return None


def tried(module: torch.nn.Module, spec: TensorSpec) -> Any:
    """What the module gives for two samples of this kind."""
    import torch

    module.eval()
    with torch.no_grad():
        return module(torch.from_numpy(np.zeros((2, *spec.shape), spec.dtype)))


def problem_of_torch(outputs: Any) -> str | None:
    """Of what `tried` gave."""
    import torch

    if not isinstance(outputs, torch.Tensor):
        return f"a module that gives {kind(outputs)}, not a tensor [sample, output]"
    if outputs.ndim != 2 or len(outputs) != 2 or outputs.dtype != torch.float32:
        return f"a module that gives {outputs.dtype} {list(outputs.shape)} for 2 samples, not float32 [sample, output]"
    return None


def problem_of_metrics(found: Any, metric: str) -> str | None:
    """Of what `score` gave."""
    return _problem_of_named(found, metric, "a number", _is_number)


def problem_of_intervals(found: Any, metric: str) -> str | None:
    """Of what `intervals` gave."""
    return _problem_of_named(found, metric, "a pair of numbers", _is_pair)


def problem_of_baseline(found: Any, metric: str) -> str | None:
    """Of what `baseline` gave."""
    if not isinstance(found, Baseline):
        return f"{kind(found)}, not a Baseline"
    if not isinstance(found.beside, Mapping):
        return f"beside as {kind(found.beside)}, not a mapping from names to metrics"
    problems = (problem_of_metrics(metrics, metric) for metrics in (found.metrics, *found.beside.values()))
    return next((problem for problem in problems if problem is not None), None)


def problem_of_judgement(found: NDArray[Any], decisions: int) -> str | None:
    """Of what `right` gave."""
    if found.shape != (decisions,) or found.dtype.kind not in _NUMERIC:
        return f"{_array(found)}, not a number for each of {decisions} decisions"
    known = found[~np.isnan(found)]
    return None if np.isin(known, (0, 1)).all() else "numbers other than 1 for right, 0 for wrong and NaN for unknown"


def kind(value: Any) -> str:
    """What a value is, for a message."""
    return "None" if value is None else f"a {type(value).__name__}"


def _problem_of_named(found: Any, metric: str, wanted: str, sound: Callable[[Any], bool]) -> str | None:
    if not isinstance(found, Mapping):
        return f"{kind(found)}, not {wanted} for each metric, by name"
    wrong = next((name for name, value in found.items() if not sound(value)), None)
    if wrong is not None:
        return f"{kind(found[wrong])} for '{wrong}', not {wanted}"
    return None if metric in found else f"no '{metric}', which is what the task's `metric` names"


def _is_number(value: Any) -> bool:
    return isinstance(value, Real | np.number) or (isinstance(value, np.ndarray) and value.ndim == 0)


def _is_pair(value: Any) -> bool:
    return isinstance(value, Sequence | np.ndarray) and len(value) == 2 and all(map(_is_number, value))


def _array(array: NDArray[Any]) -> str:
    return f"{array.dtype} {list(array.shape)}"
