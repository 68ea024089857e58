"""Every runtime takes the same steps: LiteRT, Keras on TensorFlow and on torch, and plain torch."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray

from cloud.export import Converter, StepConversion
from edgebench.errors import ModelError
from edgebench.federated.keras_stepper import KerasStepper
from edgebench.federated.learner import LocalPlan
from edgebench.federated.litert_stepper import LiteRtStepper
from tests.federated.learning import (
    BATCH,
    CASES,
    STEPS,
    STEPS_BY_HAND,
    initial_weights,
    largest_difference,
    learned,
    saved,
    steps_by_hand,
)

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the Keras file of each case, `<case>.tflite`, its training step, and `.json` beside it."""
    directory = tmp_path_factory.mktemp("models")
    with Converter() as converter:
        for name, case in CASES.items():
            batch = 2 if name == "line" else BATCH
            out = str(directory / f"{name}.tflite")
            converter.convert_step(StepConversion("icu-death", str(saved(name, directory)), case.loss, batch, out))
    return directory


class OnTorch(NamedTuple):
    """What the process with torch has found."""

    steps: dict[str, Any]
    directory: Path

    def weights(self, runtime: str, case: str) -> dict[str, NDArray[np.float32]]:
        with np.load(self.directory / f"{runtime}-{case}.npz") as file:
            return dict(file)


@pytest.fixture(scope="module")
def on_torch(models: Path) -> OnTorch:
    done = subprocess.run(
        [sys.executable, "-m", "tests.federated.torch_learners", str(models)],
        cwd=ROOT,
        env={**os.environ, "KERAS_BACKEND": "torch", "CUDA_VISIBLE_DEVICES": "-1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return OnTorch(json.loads(done.stdout.splitlines()[-1]), models)


@pytest.fixture(scope="module")
def expected(models: Path) -> Callable[[str], list[NDArray[np.float32]]]:
    """The weights that Keras on TensorFlow, which differentiates by itself, ends with."""
    known: dict[str, list[NDArray[np.float32]]] = {}

    def weights(name: str) -> list[NDArray[np.float32]]:
        if name not in known:
            path, case = models / f"{name}.keras", CASES[name]
            known[name] = learned(KerasStepper(path, case.loss), case, initial_weights(path)).weights
        return known[name]

    return weights


def as_numbers(steps: dict[str, Any]) -> list[float]:
    return [number for name in STEPS_BY_HAND for step in steps[name] for number in step]


BY_HAND = pytest.approx(as_numbers(STEPS_BY_HAND), rel=1e-5)


def test_litert_takes_the_steps_that_were_worked_out_by_hand(models: Path) -> None:
    assert as_numbers(steps_by_hand(LiteRtStepper(models / "line.tflite"))) == BY_HAND


def test_keras_takes_the_steps_that_were_worked_out_by_hand(models: Path) -> None:
    assert as_numbers(steps_by_hand(KerasStepper(models / "line.keras", "mean_squared_error"))) == BY_HAND


@pytest.mark.parametrize("runtime", ["keras", "torch", "own"])
def test_torch_takes_the_steps_that_were_worked_out_by_hand(on_torch: OnTorch, runtime: str) -> None:
    assert as_numbers(on_torch.steps[runtime]) == BY_HAND


@pytest.mark.parametrize("name", ["lstm", "dense", "convolutional"])
def test_litert_learns_what_keras_learns(
    models: Path, expected: Callable[[str], list[NDArray[np.float32]]], name: str
) -> None:
    stepper, weights = LiteRtStepper(models / f"{name}.tflite"), initial_weights(models / f"{name}.keras")
    done = learned(stepper, CASES[name], weights)
    assert done.steps == STEPS
    assert largest_difference(done.weights, expected(name)) < 1e-4
    assert largest_difference([w for w in done.weights if w.ndim > 1], [w for w in weights if w.ndim > 1]) > 0.01


@pytest.mark.parametrize("runtime", ["keras", "torch"])
@pytest.mark.parametrize("name", ["lstm", "dense", "convolutional"])
def test_a_keras_model_learns_the_same_on_torch(
    models: Path, on_torch: OnTorch, expected: Callable[[str], list[NDArray[np.float32]]], name: str, runtime: str
) -> None:
    found = on_torch.weights(runtime, name)
    assert tuple(found) == LiteRtStepper(models / f"{name}.tflite").names
    assert largest_difference(list(found.values()), expected(name)) < 1e-4


def test_a_plain_module_learns_the_same_and_its_weights_go_by_its_state_dict(
    on_torch: OnTorch, expected: Callable[[str], list[NDArray[np.float32]]]
) -> None:
    found = on_torch.weights("own", "dense")
    assert list(found) == ["0.weight", "0.bias", "2.weight", "2.bias", "4.weight", "4.bias"]
    assert largest_difference(list(found.values()), expected("dense")) < 1e-4


def test_one_stepper_serves_several_clients(models: Path) -> None:
    stepper, case = LiteRtStepper(models / "dense.tflite"), CASES["dense"]
    weights = initial_weights(models / "dense.keras")
    first = learned(stepper, case, weights).weights
    other = learned(stepper, case, [weight + 1 for weight in weights]).weights
    again = learned(stepper, case, weights).weights
    assert not np.array_equal(first[0], other[0])
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))


@pytest.mark.parametrize("runtime", ["litert", "keras"])
def test_the_weights_go_by_the_paths_of_the_variables(models: Path, runtime: str) -> None:
    stepper = (
        LiteRtStepper(models / "lstm.tflite")
        if runtime == "litert"
        else KerasStepper(models / "lstm.keras", "binary_crossentropy")
    )
    cell = [f"course/lstm_cell/{weight}" for weight in ("kernel", "recurrent_kernel", "bias")]
    assert list(stepper.names) == [*cell, "risk/kernel", "risk/bias"]


def test_what_does_not_fit_the_step_is_refused(models: Path) -> None:
    stepper, weights = LiteRtStepper(models / "line.tflite"), [np.array([[2]], np.float32)]
    with pytest.raises(ModelError, match=r"line\.tflite: takes batches of 2, not of 4"):
        stepper.load(weights, LocalPlan(epochs=1, batch_size=4, learning_rate=0.1))
    with pytest.raises(ModelError, match=r"are \[1\], where the model has \[1, 1\]"):
        stepper.load([weights[0][0]], LocalPlan(epochs=1, batch_size=2, learning_rate=0.1))


def test_files_that_are_no_training_step_are_refused(models: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"step\.tflite: not a training step that runs here"):
        LiteRtStepper(tmp_path / "step.tflite")
    (tmp_path / "step.tflite").write_bytes(b"nonsense")
    (tmp_path / "step.json").write_bytes((models / "line.json").read_bytes())
    with pytest.raises(ModelError, match=r"step\.tflite: not a training step that runs here"):
        LiteRtStepper(tmp_path / "step.tflite")
    with pytest.raises(ModelError, match=r"step\.tflite: not a Keras model that loads safely"):
        KerasStepper(tmp_path / "step.tflite", "mean_squared_error")
