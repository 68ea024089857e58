"""What a user's own task gives is checked where it comes in, and told in one line that names the task."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import msgspec
import numpy as np
import pytest
import torch

from edgebench.errors import DataError, TaskError
from edgebench.tasks import task_named
from edgebench.tasks.task import Baseline, Dataset, Epoch, FitOptions, Split, Task
from edgebench.tasks.user_task import user_task
from tests.cloud.tiny import NAME, TASK

SOUND = TASK.load(None, seed=0)
OUTPUTS, LABELS = np.full((4, 1), 0.5, np.float32), np.ones((4, 1), np.float32)


class _Gives:
    """A task of which every method gives this, or raises it."""

    name, scenario, metric, models = NAME, "test", "auroc", TASK.models

    def __init__(self, what: Any) -> None:
        self._what = what

    def __getattr__(self, part: str) -> Any:
        if part not in {"load", "fit", "score", "intervals", "baseline", "right"}:
            raise AttributeError(part)
        return self._give

    def _give(self, *_: object, **__: object) -> Any:
        if isinstance(self._what, Exception):
            raise self._what
        return self._what


def gives(what: Any) -> Task:
    return user_task(NAME, sys.modules[__name__], _Gives(what))


def load(what: Any) -> Dataset:
    return gives(what).load(None, seed=0)


def fit(what: Any) -> Any:
    return gives(what).fit("light", SOUND, FitOptions(seed=0, epochs=1))


def said_of(call: Callable[[], object]) -> str:
    """What is said of the task, which must be one line and name it."""
    with pytest.raises(TaskError) as caught:
        call()
    first, _, said = str(caught.value).partition(": ")
    assert first == f"task '{NAME}'"
    assert "\n" not in said
    return said


def changed(part: str, **changes: Any) -> Dataset:
    split: Split = getattr(SOUND, part)
    instead: Any = {part: replace(split, **changes)}
    return replace(SOUND, **instead)


def having(**parts: Any) -> Dataset:
    return replace(SOUND, **parts)


def not_finite() -> Dataset:
    x = SOUND.train.x.copy()
    x[3, 0, 0] = np.nan
    return changed("train", x=x)


HELD_OUT = "figures on what was learned from would be too good: keep a group in one split"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (None, "load gave None, not a Dataset"),
        (having(test=(SOUND.test.x, SOUND.test.y)), "load gave test, a tuple, not a Split"),
        (having(valid=None), "load gave valid, None, not a Split"),
        (having(source=Path("tiny")), f"load gave source as a {type(Path()).__name__}, not a str"),
        (having(real=None), "load gave real as None, not a bool"),
        (having(features=None), "load gave features as None, not a tuple of names"),
        (having(beside={"old": SOUND.train}), f"load gave group 0 in train and in old ({HELD_OUT})"),
        (having(beside=None), "load gave beside as None, not a mapping from names to splits"),
        (having(beside=[SOUND.test]), "load gave beside as a list, not a mapping from names to splits"),
        (having(beside={"old": None}), "load gave old, None, not a Split"),
        (having(natural_key="site"), "load gave natural_key 'site' and no train.key (give the key of each sample)"),
        (having(valid=SOUND.train), f"load gave group 0 in train and in valid ({HELD_OUT})"),
        (
            changed("test", group=SOUND.valid.group.repeat(2)[:70]),
            f"load gave group 1000 in valid and in test ({HELD_OUT})",
        ),
        (changed("train", y=SOUND.train.y[1:]), "load gave train.y of 299 samples, where x has 300"),
        (changed("train", y=SOUND.train.y.tolist()), "load gave train.y, a list, not a NumPy array"),
        (
            changed("valid", y=SOUND.valid.y[:, 0]),
            "load gave valid.y of float32 [60], not [sample, label] (y[:, None], for one label)",
        ),
        (
            changed("test", y=SOUND.test.y.astype(np.float64)),
            "load gave test.y of float64 [70, 1], not float32 (y.astype(np.float32))",
        ),
        (
            changed("test", x=SOUND.test.x[:, 1:]),
            "load gave test.x of float32 [70, 7, 3] beside train.x of float32 [300, 8, 3]",
        ),
        (changed("train", x=np.float32(3.0)), "load gave train.x, a float32, not a NumPy array"),
        (changed("train", x=np.array(3.0)), "load gave train.x of float64 [], not numbers [sample, …]"),
        (
            changed("train", x=SOUND.train.x.astype(object)),
            "load gave train.x of object [300, 8, 3], not numbers [sample, …]",
        ),
        (
            changed("valid", y=np.full_like(SOUND.valid.y, np.nan)),
            "load gave valid.y with labels that are not finite (leave those samples out)",
        ),
        (not_finite(), "load gave train.x with values that are not finite (fill them in, or leave those samples out)"),
        (changed("valid", group=None), "load gave valid.group, None, not a NumPy array"),
        (
            changed("valid", group=SOUND.valid.group.astype(float)),
            "load gave valid.group of float64 [60], not int64 [sample]",
        ),
        (changed("valid", group=np.array(["a"] * 60)), "load gave valid.group of <U1 [60], not int64 [sample]"),
        (changed("valid", x=SOUND.valid.x[:0]), "load gave valid.x without a sample"),
    ],
)  # fmt: skip
def test_a_dataset_is_checked(given: Any, said: str) -> None:
    assert said_of(lambda: load(given)) == said


class Subclassed(keras.Model):
    def call(self, x: Any) -> Any:
        return x[:, 0, :1]


class Torch(torch.nn.Module):
    """A module that gives what this makes of samples."""

    def __init__(self, make: Callable[[torch.Tensor], Any]) -> None:
        super().__init__()
        self._make = make

    def forward(self, x: torch.Tensor) -> Any:
        return self._make(x)


def network(*shape: int | None, outputs: int = 1, dtype: str = "float32") -> keras.Model:
    inputs = keras.Input(shape, dtype=dtype)
    return keras.Model(inputs, keras.layers.Dense(outputs)(keras.layers.Flatten()(inputs)))


def named() -> keras.Model:
    inputs = keras.Input((8, 3))
    return keras.Model(inputs, {"risk": keras.layers.Dense(1)(keras.layers.Flatten()(inputs))})


def named_input() -> keras.Model:
    inputs = {"x": keras.Input((8, 3), name="x")}
    return keras.Model(inputs, keras.layers.Dense(1)(keras.layers.Flatten()(inputs["x"])))


def two_inputs() -> keras.Model:
    inputs = [keras.Input((8, 3)), keras.Input((8, 3))]
    return keras.Model(inputs, keras.layers.Dense(1)(keras.layers.Flatten()(keras.layers.Add()(inputs))))


NEITHER = "neither a Keras model nor a torch module (return the model)"
NOT_FIXED = "a Keras model without fixed inputs (make it of keras.Input and layers)"
SAMPLES = "samples are float32 [8, 3] (keras.Input((8, 3), dtype='float32'), or other x)"
NO_VECTOR = "not float32 [sample, output]"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (lambda: None, f"None, {NEITHER}"),
        (lambda: "a model", f"a str, {NEITHER}"),
        (lambda: torch.nn.Linear, f"a type, {NEITHER}"),
        (lambda: torch.optim.SGD(torch.nn.Linear(3, 1).parameters()), f"a SGD, {NEITHER}"),
        (lambda: network(9, 3), f"a model of float32 [9, 3], {SAMPLES}"),
        (lambda: network(8, 3, dtype="uint8"), f"a model of uint8 [8, 3], {SAMPLES}"),
        (two_inputs, "a Keras model with several inputs, or named ones (it takes samples)"),
        (named_input, "a Keras model with several inputs, or named ones (it takes samples)"),
        (
            lambda: keras.Sequential([network(8, 3), keras.layers.Dense(1, dtype="float16")]),
            "a model that gives float16, not float32 (dtype='float32', for its last layer)",
        ),
        (named, "a Keras model that gives a dict, not one tensor [batch, output]"),
        (Subclassed, NOT_FIXED),
        (lambda: keras.Sequential([keras.layers.Flatten(), keras.layers.Dense(1)]), NOT_FIXED),
        (
            lambda: keras.Sequential([keras.Input((8, 3)), keras.layers.LSTM(2, return_sequences=True)]),
            "a model that gives [None, 8, 2], not [batch, output]",
        ),
        (lambda: Torch(lambda x: (x, x)), "a module that gives a tuple, not a tensor [sample, output]"),
        (lambda: Torch(lambda x: x[:, 0, 0]), f"a module that gives torch.float32 [2] for 2 samples, {NO_VECTOR}"),
        (
            lambda: Torch(lambda x: x[:, 0].double()),
            f"a module that gives torch.float64 [2, 3] for 2 samples, {NO_VECTOR}",
        ),
    ],
)
def test_a_model_is_checked(given: Callable[[], Any], said: str) -> None:
    assert said_of(lambda: fit(given())) == f"fit gave {said}"


def test_a_torch_module_is_tried_on_samples() -> None:
    said = said_of(lambda: fit(torch.nn.Linear(5, 1)))
    # Without a place: none of its lines is the user's.
    assert (
        said
        == "the module that fit gave failed: RuntimeError: mat1 and mat2 shapes cannot be multiplied (16x3 and 5x1)"
    )


def test_samples_are_as_the_model_takes_them() -> None:
    double = [replace(split, x=split.x.astype(np.float64)) for split in (SOUND.train, SOUND.valid, SOUND.test)]
    dataset = having(train=double[0], valid=double[1], test=double[2], beside={})
    said = said_of(lambda: gives(network(8, 3)).fit("light", dataset, FitOptions(seed=0)))
    assert said.startswith(
        "fit gave a model of float32 [8, 3], samples are float64 [8, 3] (keras.Input((8, 3), dtype='f"
    )


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (None, "None, not {kind} for each metric, by name"),
        (0.5, "a float, not {kind} for each metric, by name"),
        ({"auroc": None}, "None for 'auroc', not {kind}"),
        ({"auroc": "0.5"}, "a str for 'auroc', not {kind}"),
        ({}, "no 'auroc', which is what the task's `metric` names"),
    ],
)
def test_metrics_and_their_intervals_are_checked(given: Any, said: str) -> None:
    task = gives(given)
    scored = said_of(lambda: task.score(OUTPUTS, LABELS))
    assert scored == f"score gave {said.format(kind='a number')}"
    bounds = said_of(lambda: task.intervals(OUTPUTS, LABELS, seed=0))
    assert bounds == f"intervals gave {said.format(kind='a pair of numbers')}"


NO_NAMES: Any = None


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"auroc": 1.0}, "a dict, not a Baseline"),
        (Baseline("b", {"auroc": 0.5}, NO_NAMES), "beside as None, not a mapping from names to metrics"),
        (Baseline("b", {"auroc": NO_NAMES}), "None for 'auroc', not a number"),
        (Baseline("b", {"auroc": 0.5}, {"old": {}}), "no 'auroc', which is what the task's `metric` names"),
    ],
)
def test_a_baseline_is_checked(given: Any, said: str) -> None:
    assert said_of(lambda: gives(given).baseline(SOUND, seed=0)) == f"baseline gave {said}"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (np.ones((4, 1)), "float64 [4, 1], not a number for each of 4 decisions"),
        (["yes", "no", "no", "no"], "<U3 [4], not a number for each of 4 decisions"),
        ([1, 0, 3, 0], "numbers other than 1 for right, 0 for wrong and NaN for unknown"),
    ],
)
def test_what_is_right_is_checked(given: Any, said: str) -> None:
    assert said_of(lambda: gives(given).right(OUTPUTS, LABELS)) == f"right gave {said}"


def test_what_is_right_may_be_told_by_truth_values_and_be_unknown() -> None:
    found = gives([True, False, True, True]).right(OUTPUTS, LABELS)
    assert found.dtype == np.float32
    assert found.tolist() == [1, 0, 1, 1]
    assert np.isnan(gives([1, 0, np.nan, 1]).right(OUTPUTS, LABELS)[2])


class _Tells(_Gives):
    """A task whose `fit` tells of this, and gives a model."""

    def _give(self, *given: Any, **_: object) -> Any:
        given[-1].progress(self._what)
        return network(8, 3)


@pytest.mark.parametrize(
    ("told", "said"),
    [
        ("epoch 1", "a str, not an Epoch"),
        (Epoch(1, 2, NO_NAMES, 0.5), "an Epoch whose loss is None, not a number"),
        (Epoch(1, 2, 0.1, 0.5, NO_NAMES), "an Epoch whose picture is None, not a PNG"),
    ],
)
def test_what_fit_tells_is_checked(told: Any, said: str) -> None:
    task = user_task(NAME, sys.modules[__name__], _Tells(told))
    assert (
        said_of(lambda: task.fit("light", SOUND, FitOptions(seed=0, progress=lambda _: None))) == f"fit reported {said}"
    )


def test_numbers_of_numpy_become_those_of_python() -> None:
    half: Any = np.float32(0.5)
    seen: list[Epoch] = []
    one: Any = np.int64(1)
    task = user_task(NAME, sys.modules[__name__], _Tells(Epoch(one, 2 * one, half, np.float64(0.5))))
    task.fit("light", SOUND, FitOptions(seed=0, progress=seen.append))
    found = gives(Baseline("b", {"auroc": half}, {"old": {"auroc": half}})).baseline(SOUND, seed=0)
    # Which other types would not survive.
    assert msgspec.json.encode(seen) == msgspec.json.encode([Epoch(1, 2, 0.5, 0.5)])
    assert msgspec.json.encode([found.metrics, found.beside]) == b'[{"auroc":0.5},{"old":{"auroc":0.5}}]'
    assert msgspec.json.encode(gives({"auroc": half}).score(OUTPUTS, LABELS)) == b'{"auroc":0.5}'


def test_what_is_sound_passes() -> None:
    assert load(SOUND) is SOUND
    for model in (network(8, 3), network(8, 3, outputs=2), Torch(lambda x: x[:, 0])):
        assert fit(model) is model
    assert gives({"auroc": np.float32(0.5), "rank": 1, "f1": np.nan}).score(OUTPUTS, LABELS)["auroc"] == 0.5
    assert gives({"auroc": [0.4, 0.6]}).intervals(OUTPUTS, LABELS, seed=0) == {"auroc": (0.4, 0.6)}
    found = Baseline("guessing", {"auroc": 0.5})
    assert gives(found).baseline(SOUND, seed=0) == found


def test_a_mistake_that_the_task_tells_itself_stays_as_it_is() -> None:
    with pytest.raises(DataError, match=r"^no such folder$"):
        load(DataError("no such folder"))


TASK_FILE = """\
import numpy as np
from edgebench.tasks.classifier import Classifier
from tests.cloud.tiny import TinyTask

class Broken(TinyTask):
    def load(self, data, *, seed):
        return np.concatenate([np.zeros(2), np.zeros((2, 2))])

    def score(self, outputs, labels):
        raise ValueError(
            "\\x1b[1m" + "wear\\n" * 1_000
        )

    def intervals(self, outputs, labels):
        return {}

    def baseline(self, dataset, *, seed):
        raise SystemExit("no baseline")

class Half(Classifier):
    def load(self, data, *, seed): ...
    def build(self, size, dataset): ...

class NoModels(TinyTask):
    def __init__(self, **models):
        super().__init__(models=models)

class Raising(TinyTask):
    @property
    def loss(self):
        return 1 / 0

class Partial:
    name = "bare"
    scenario = metric = "own"
    models = ["light"]
    load = None

class Bare(Partial):
    fit = score = intervals = baseline = None

class Keywords(TinyTask):
    def fit(self, size, dataset, *, seed, epochs=None, examples=None, progress=None): ...

TASK, PARTIAL, BARE, HALF, RAISING = Broken(), Partial(), Bare(), Half(), Raising()
NONE, OTHER, NO_INFO = NoModels(), NoModels(small=None), NoModels(light="dense")
NO_METRIC, KEYWORDS = TinyTask(metric=None), Keywords()
"""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file of a user's tasks, which Python finds."""
    file = tmp_path / "broken_task.py"
    file.write_text(TASK_FILE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "broken_task", raising=False)
    return file


def test_what_fails_inside_a_library_is_placed_in_the_users_file(own: Path) -> None:
    with pytest.raises(TaskError) as caught:
        task_named("broken_task:TASK").load(None, seed=0)
    said = str(caught.value)
    assert said.startswith("task 'broken_task:TASK': load failed: ValueError: all the input arrays must have same")
    assert said.endswith(f" ({own}, line 7)")


@pytest.mark.usefixtures("own")
def test_a_method_that_takes_other_arguments_has_no_place() -> None:
    with pytest.raises(TaskError) as caught:
        task_named("broken_task:TASK").intervals(OUTPUTS, LABELS, seed=0)
    what = "Broken.intervals() got an unexpected keyword argument 'seed'"
    assert str(caught.value) == f"task 'broken_task:TASK': intervals failed: TypeError: {what}"


def test_a_task_does_not_end_the_process(own: Path) -> None:
    with pytest.raises(TaskError) as caught:
        task_named("broken_task:TASK").baseline(SOUND, seed=0)
    said = f"baseline failed: SystemExit: no baseline ({own}, line 18)"
    assert str(caught.value) == f"task 'broken_task:TASK': {said}"


def test_a_task_goes_by_the_name_that_leads_to_it() -> None:
    assert user_task("ward:TASK", sys.modules[__name__], _Gives(None)).name == "ward:TASK"


def test_a_long_error_is_cut(own: Path) -> None:
    with pytest.raises(TaskError) as caught:
        task_named("broken_task:TASK").score(OUTPUTS, LABELS)
    said = str(caught.value)
    assert said.startswith("task 'broken_task:TASK': score failed: ValueError: wear wear")
    assert said.endswith(f" … ({own}, line 10)")
    assert len(said) < 700


@pytest.mark.usefixtures("own")
@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("broken_task:Broken", "a class, not a task (add `TASK = Broken()` to its module, and name broken_task:TASK)"),
        ("broken_task:HALF", "not a task, it lacks name, classes (see edgebench.tasks.task.Task)"),
        ("broken_task:BARE", "models is a list, not a mapping from 'light', 'heavy' or both to a ModelInfo"),
        ("broken_task:NO_METRIC", "metric is None, not a string"),
        ("broken_task:KEYWORDS", "fit does not take (size, dataset, options), options being a FitOptions"),
        ("broken_task:NONE", "models is empty, not a mapping from 'light', 'heavy' or both to a ModelInfo"),
        ("broken_task:OTHER", "models has 'small', which is none of light, heavy, published"),
        ("broken_task:NO_INFO", "models has a str for 'light', not a ModelInfo"),
        ("broken_task:PARTIAL", "not a task, it lacks fit, score, intervals, baseline (see edgebench.tasks.task.Task)"),
    ],
)
def test_what_is_no_task_is_told_with_what_it_lacks(name: str, said: str) -> None:
    with pytest.raises(TaskError) as caught:
        task_named(name)
    assert str(caught.value) == f"task '{name}': {said}"
