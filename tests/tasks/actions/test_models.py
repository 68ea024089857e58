"""The networks for both kinds of samples: their sizes, their training and their conversion."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import keras
import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter
from numpy.typing import NDArray

from cloud.export import BATCHES, Conversion, Converter, StepConversion
from edgebench.federated.keras_stepper import KerasStepper
from edgebench.federated.learner import LocalPlan, fit
from edgebench.federated.litert_stepper import LiteRtStepper
from edgebench.inference.spec import TensorSpec
from edgebench.seeds import rng_for
from edgebench.tasks import task_named
from edgebench.tasks.actions.baseline import features
from edgebench.tasks.actions.models import build
from edgebench.tasks.actions.skeletons import SHAPE
from edgebench.tasks.models import outputs_of, with_batch
from edgebench.tasks.task import Dataset, Epoch, FitOptions, Size, Split
from tests.federated.learning import initial_weights, largest_difference

SKELETONS = TensorSpec("uint8", SHAPE)
FRAMES = TensorSpec("uint8", (2, 16, 16, 3))
NAME = "action-recognition"


@pytest.fixture(scope="module")
def light(data: Dataset) -> keras.Model:
    return task_named(NAME).fit("light", data, FitOptions(seed=1, epochs=2))


@pytest.fixture(scope="module")
def converter() -> Iterator[Converter]:
    with Converter() as converter:
        yield converter


def noise(spec: TensorSpec, samples: int) -> NDArray[np.uint8]:
    return rng_for(1, "noise").integers(0, 256, (samples, *spec.shape)).astype(np.uint8)


@pytest.mark.parametrize("size", ["light", "heavy", "published"])
def test_the_listed_numbers_of_parameters_are_those_of_the_generated_data(size: Size) -> None:
    assert build(size, SKELETONS, 20).count_params() == task_named(NAME).models[size].parameters


def test_the_published_shape_has_the_published_number_of_parameters() -> None:
    """ResNet-18 has 11,689,512 weights for 1000 classes, 513 a class; for 101 classes that makes 11,228,325, beside
    which Keras counts mean and variance of the 4,800 normalised channels."""
    model = build("published", TensorSpec("uint8", (3, 112, 112, 3)), 101)
    learned = sum(int(np.prod(variable.shape)) for variable in model.trainable_variables)
    assert learned == 11_689_512 - 513 * (1000 - 101) == 11_228_325
    assert model.count_params() == learned + 2 * 4_800
    assert model.get_layer("enlarged").output.shape == (None, 224, 224, 3)


@pytest.mark.usefixtures("eagerly")
def test_the_published_shape_learns(data: Dataset) -> None:
    # The trunk is the same for every input; a step on a few samples shows that its weights move.
    model = build("published", SKELETONS, 20)
    before = [np.array(weight) for weight in model.get_weights()]
    model.compile("sgd", "sparse_categorical_crossentropy", jit_compile=False)
    model.train_on_batch(data.train.x[:2], data.train.y[:2])
    assert sum(not np.array_equal(*pair) for pair in zip(before, model.get_weights(), strict=True)) > 100


@pytest.mark.parametrize(("size", "spec"), [("light", SKELETONS), ("heavy", SKELETONS), ("light", FRAMES)])
def test_outputs_are_probabilities_whatever_the_batch(tmp_path: Path, size: Size, spec: TensorSpec) -> None:
    model = build(size, spec, 7)
    x = noise(spec, 3)
    outputs = outputs_of(model, x)
    assert outputs.shape == (3, 7)
    assert outputs.dtype == np.float32
    assert outputs.sum(axis=1) == pytest.approx(1, abs=1e-5)
    fixed = with_batch(model, 3)
    assert fixed.output_shape == (3, 7)
    assert outputs_of(fixed, x) == pytest.approx(outputs, abs=1e-5)
    model.save(tmp_path / "model.keras")
    kept = keras.models.load_model(tmp_path / "model.keras", compile=False, safe_mode=True)
    assert outputs_of(kept, x) == pytest.approx(outputs, abs=1e-6)


def test_frames_say_the_same_in_any_order() -> None:
    model = build("light", FRAMES, 7)
    x = noise(FRAMES, 2)
    assert outputs_of(model, x[:, ::-1]) == pytest.approx(outputs_of(model, x), abs=1e-6)
    # What two frames say apart, in log-odds, is averaged.
    alone = [np.log(outputs_of(model, np.repeat(x[:, i : i + 1], 2, axis=1))) for i in range(2)]
    mean = np.exp((alone[0] + alone[1]) / 2)
    assert outputs_of(model, x) == pytest.approx(mean / mean.sum(axis=1, keepdims=True), abs=1e-5)


def test_two_epochs_teach_the_light_model_something_and_a_seed_repeats_it(data: Dataset, light: keras.Model) -> None:
    task = task_named(NAME)
    seen: list[Epoch] = []
    again = task.fit("light", data, FitOptions(seed=1, epochs=2, progress=seen.append))
    outputs = outputs_of(light, data.test.x)
    assert outputs_of(again, data.test.x) == pytest.approx(outputs, abs=1e-5)
    found = task.score(outputs, data.test.y)
    assert found["top1"] > 0.1  # a guess is 0.05
    assert [(each.epoch, each.epochs) for each in seen] == [(1, 2), (2, 2)]
    assert seen[1].loss < seen[0].loss
    low, high = task.intervals(outputs, data.test.y, seed=1, group=data.test.group)["top1"]
    assert low < found["top1"] < high


def test_frames_teach_the_light_model_which_colour_is_which() -> None:
    """Two actions, one of them in red; eight samples of each to learn from."""
    x, y = noise(FRAMES, 32) // 2, np.tile([[0], [1]], (16, 1)).astype(np.float32)
    x[1::2, ..., 0] += 120
    split = Split(x, y, group=np.arange(32, dtype=np.int64))
    train, rest = split.rows(np.arange(16)), split.rows(np.arange(16, 32))
    dataset = Dataset("made up", False, ("frame 1", "frame 2"), train, rest, rest)
    task = task_named(NAME)
    model = task.fit("light", dataset, FitOptions(seed=1, epochs=1))
    assert model.output_shape == (None, 2)
    assert task.score(outputs_of(model, rest.x), rest.y)["top1"] == 1
    assert task.baseline(dataset, seed=1).metrics["top1"] == 1


def test_the_baseline_sees_frames_as_means_of_blocks() -> None:
    x = np.zeros((1, 2, 30, 28, 3), np.uint8)
    x[0, 1, 2:4, 4:6, 2] = (255, 0)
    found = features(x).reshape(2, 14, 14, 3)
    assert found[1, 1, 2, 2] == pytest.approx(0.5)
    assert np.count_nonzero(found) == 1


@pytest.mark.parametrize(
    ("kind", "quantisation", "tolerance"),
    [("light", "int8", 0.1), ("heavy", "float16", 0.02), ("frames", "float32", 1e-5)],
)
def test_models_run_on_litert_in_every_batch_size(
    data: Dataset,
    light: keras.Model,
    converter: Converter,
    tmp_path: Path,
    kind: str,
    quantisation: str,
    tolerance: float,
) -> None:
    keras.utils.set_random_seed(3)
    built = {"heavy": build("heavy", SKELETONS, 20), "frames": build("light", FRAMES, 20), "light": light}
    model = built[kind]
    x = noise(FRAMES, 32) if kind == "frames" else data.test.x[:32]
    model.save(tmp_path / "model.keras")
    np.save(tmp_path / "representative.npy", x)
    file = tmp_path / "model.tflite"
    samples = str(tmp_path / "representative.npy") if quantisation == "int8" else None
    converter.convert(Conversion(NAME, str(tmp_path / "model.keras"), quantisation, samples, str(file)))
    interpreter = Interpreter(str(file), num_threads=1)
    for batch in BATCHES:
        outputs = interpreter.get_signature_runner(f"batch_{batch}")(x=x[:batch])["y"]
        assert outputs.dtype == np.float32
        assert outputs == pytest.approx(outputs_of(model, x[:batch]), abs=tolerance)


@pytest.mark.parametrize("spec", [SKELETONS, FRAMES])
def test_a_device_learns_the_light_model_as_keras_does(converter: Converter, tmp_path: Path, spec: TensorSpec) -> None:
    keras.utils.set_random_seed(3)
    path, step = tmp_path / "model.keras", tmp_path / "step.tflite"
    build("light", spec, 5).save(path)
    loss = task_named(NAME).loss
    assert not callable(loss)
    converter.convert_step(StepConversion(NAME, str(path), loss, 4, str(step)))
    x, y = noise(spec, 7), (np.arange(7) % 5)[:, None].astype(np.float32)
    plan = LocalPlan(epochs=2, batch_size=4, learning_rate=0.02, momentum=0.9, clip_norm=1.0, proximal_mu=0.1)
    weights = initial_weights(path)
    here = fit(LiteRtStepper(step), weights, x, y, plan, seed=5)
    there = fit(KerasStepper(path, loss), weights, x, y, plan, seed=5)
    assert here.steps == 4
    assert here.loss == pytest.approx(there.loss, rel=1e-4)
    assert largest_difference(here.weights, there.weights) < 1e-4
    assert all(not np.array_equal(*pair) for pair in zip(weights, here.weights, strict=True))
