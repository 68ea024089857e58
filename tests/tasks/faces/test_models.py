"""The networks: their sizes, their training and their conversion."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter

from edgebench.tasks import task_named
from edgebench.tasks.faces import fit as fitting
from edgebench.tasks.faces.models import Backbone, build
from edgebench.tasks.faces.task import FACES, SPHEREFACE, FaceTask
from edgebench.tasks.models import outputs_of, with_batch
from edgebench.tasks.task import Dataset, Epoch, FitOptions, Size

# TensorFlow's converter warns of its own coming changes.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")

SHAPE = (56, 48, 1)
EPOCHS = 3


@pytest.fixture(scope="module")
def data() -> Dataset:
    return FACES.load(None, seed=1)


@pytest.fixture
def small(data: Dataset, monkeypatch: pytest.MonkeyPatch) -> Dataset:
    """Few samples an epoch, and few to watch it by."""
    short = {name: replace(recipe, batch=20, epoch_samples=20) for name, recipe in fitting.RECIPES.items()}
    monkeypatch.setattr(fitting, "RECIPES", short)
    return replace(data, valid=data.valid.rows(np.arange(20)))


@pytest.fixture(scope="module")
def light(data: Dataset) -> keras.Model:
    return FACES.fit("light", data, FitOptions(seed=1, epochs=EPOCHS))


def test_sphereface_20_has_the_parameters_of_its_table() -> None:
    # 3 × 3 weights: 3 → 64, then 2 of 64 → 64; 64 → 128 and 4 of 128; 128 → 256 and 8 of 256; 256 → 512 and 2 of 512.
    squared = 3 * 64 + 2 * 64**2 + 64 * 128 + 4 * 128**2 + 128 * 256 + 8 * 256**2 + 256 * 512 + 2 * 512**2
    biases, slopes = 64 + 128 + 256 + 512, 3 * 64 + 5 * 128 + 9 * 256 + 3 * 512
    fully_connected = 512 * 7 * 6 * 512 + 512
    model = build("sphereface-20", SHAPE)
    assert model.count_params() == 9 * squared + biases + slopes + fully_connected == 22_666_944
    assert model.output_shape == (None, 512)
    assert sum(isinstance(layer, keras.layers.Conv2D) for layer in model.layers) == 20


@pytest.mark.parametrize(
    ("task", "size", "backbone"),
    [
        (FACES, "light", "mobilefacenet"),
        (FACES, "heavy", "facenet"),
        (SPHEREFACE, "heavy", "sphereface"),
        (FACES, "published", "sphereface-20"),
    ],
)
def test_the_listed_numbers_of_parameters_are_those_of_the_models(
    task: FaceTask, size: Size, backbone: Backbone
) -> None:
    assert build(backbone, SHAPE).count_params() == task.models[size].parameters


def test_sphereface_is_named_by_module_and_attribute() -> None:
    assert task_named(SPHEREFACE.name).models == SPHEREFACE.models


def test_outputs_are_of_length_1(data: Dataset, light: keras.Model) -> None:
    outputs = outputs_of(light, data.test.x)
    assert outputs.shape == (len(data.test), 64)
    assert outputs.dtype == np.float32
    assert np.linalg.norm(outputs, axis=1) == pytest.approx(1, abs=1e-5)


@pytest.mark.usefixtures("eagerly")
def test_a_seed_gives_the_same_model(small: Dataset) -> None:
    one, again = (FACES.fit("light", small, FitOptions(seed=1, epochs=1, examples=6)) for _ in range(2))
    x = small.test.x[:50]
    assert outputs_of(again, x) == pytest.approx(outputs_of(one, x), abs=1e-4)


def test_a_few_epochs_are_better_than_pixels_on_people_not_seen(data: Dataset, light: keras.Model) -> None:
    found = FACES.score(outputs_of(light, data.test.x), data.test.y)["auc"]
    assert found > FACES.baseline(data, seed=0).metrics["auc"]


@pytest.mark.usefixtures("eagerly")
@pytest.mark.parametrize("size", ["heavy", "published"])
def test_the_others_learn_and_are_saved(small: Dataset, tmp_path: Path, size: Size) -> None:
    seen: list[Epoch] = []
    model = FACES.fit(size, small, FitOptions(seed=1, epochs=1, examples=6, progress=seen.append))
    assert np.isfinite(seen[0].loss)
    assert 0 <= seen[0].quality <= 1
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras", compile=False, safe_mode=True)
    x = small.test.x[:2]
    assert outputs_of(with_batch(loaded, 2), x) == pytest.approx(outputs_of(model, x), abs=1e-5)


def test_colours_are_taken_as_well() -> None:
    x = np.random.Generator(np.random.PCG64(1)).integers(0, 256, (2, 56, 48, 3)).astype(np.uint8)
    for backbone in ("mobilefacenet", "sphereface", "facenet", "sphereface-20"):
        assert np.linalg.norm(outputs_of(build(backbone, (56, 48, 3)), x), axis=1) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("quantisation", ["float32", "int8"])
def test_the_light_model_runs_on_litert(data: Dataset, light: keras.Model, quantisation: str) -> None:
    import tensorflow as tf

    converter = tf.lite.TFLiteConverter.from_keras_model(with_batch(light, 1))
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
    if quantisation == "int8":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.representative_dataset = lambda: ([row[None]] for row in data.train.x[:128])
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    interpreter = Interpreter(model_content=converter.convert(), num_threads=1)
    interpreter.allocate_tensors()
    (taken,), (given,) = interpreter.get_input_details(), interpreter.get_output_details()
    found = []
    for row in data.test.x[:100]:
        interpreter.set_tensor(taken["index"], row[None])
        interpreter.invoke()
        found.append(interpreter.get_tensor(given["index"])[0])
    expected = outputs_of(light, data.test.x[:100])
    # The cosine between what both make of a picture.
    alike = (np.array(found) * expected).sum(axis=1)
    assert alike.mean() > (0.95 if quantisation == "int8" else 0.9999)
