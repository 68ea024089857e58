"""The networks: their sizes, their training and their conversion."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter
from PIL import Image

from edgebench.tasks.images import caption_of
from edgebench.tasks.models import outputs_of, with_batch
from edgebench.tasks.reid import fit as fitting
from edgebench.tasks.reid.models import build
from edgebench.tasks.reid.task import REID
from edgebench.tasks.task import Dataset, Epoch, FitOptions, Size
from edgebench.tasks.triplets import hard_triplets

# TensorFlow's converter warns of its own coming changes.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")

SHAPE = (96, 48, 3)


@pytest.fixture(scope="module")
def data() -> Dataset:
    return REID.load(None, seed=1)


@pytest.fixture(scope="module")
def light(data: Dataset) -> keras.Model:
    return REID.fit("light", data, FitOptions(seed=1, epochs=8))


def test_the_published_encoder_has_the_parameters_of_resnet_50_and_two_layers_of_512() -> None:
    # Of convolutions, 7 × 7 to begin with; then of each stage the first block with its shortcut, and the others.
    def stage(taken: int, channels: int, blocks: int) -> int:
        inside = 9 * channels**2 + channels * 4 * channels
        return taken * channels + taken * 4 * channels + blocks * inside + (blocks - 1) * 4 * channels * channels

    stages = ((64, 64, 3), (256, 128, 4), (512, 256, 6), (1024, 512, 3))
    convolutions = 49 * 3 * 64 + sum(stage(*each) for each in stages)
    # Normalised channels: two of `channels` a block and one of four times as many; the shortcuts.
    channels = 64 + sum(blocks * 6 * width + 4 * width for _, width, blocks in stages)
    resnet_50 = convolutions + 2 * channels
    # As torchvision counts it: 25,557,032 less the fully connected layer's 1000 × 2049.
    assert resnet_50 == 25_557_032 - 1000 * 2049 == 23_508_032
    two_of_512 = 2 * (2048 * 512 + 512 + 2 * 512)
    running = 2 * channels + 2 * 2 * 512
    model = build("published", SHAPE)
    assert model.count_params() == resnet_50 + two_of_512 + running == REID.models["published"].parameters
    assert model.output_shape == (None, 1024)
    assert model.get_layer("enlarged").output.shape == (None, 256, 128, 3)
    assert "enlarged" not in {layer.name for layer in build("published", (256, 128, 3)).layers}


@pytest.mark.parametrize(("size", "dimension"), [("light", 96), ("heavy", 192)])
def test_the_listed_numbers_of_parameters_are_those_of_the_models(size: Size, dimension: int) -> None:
    model = build(size, SHAPE)
    assert model.count_params() == REID.models[size].parameters
    assert model.output_shape == (None, dimension)


def test_triplets_are_of_the_farthest_same_and_the_nearest_other() -> None:
    angles = np.deg2rad([0, 60, 90, 180])
    embeddings = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    # Chords: 2 sin(angle / 2). Of the first: same at 60°, nearest other at 90°.
    expected = np.log1p(np.exp(8 * (1 - np.sqrt(2))))
    found = keras.ops.convert_to_numpy(hard_triplets(np.array([[5], [5], [6], [6]]), embeddings))
    assert found[0] == pytest.approx(expected, abs=1e-4)
    # Of the third: same at 90°, nearest other at 30°.
    assert found[2] == pytest.approx(np.log1p(np.exp(8 * (np.sqrt(2) - 2 * np.sin(np.deg2rad(15))))), abs=1e-3)


def test_outputs_are_of_length_1_and_repeat_with_the_seed(data: Dataset, light: keras.Model) -> None:
    outputs = outputs_of(light, data.test.x)
    assert outputs.shape == (len(data.test), 96)
    assert outputs.dtype == np.float32
    assert np.linalg.norm(outputs, axis=1) == pytest.approx(1, abs=1e-5)
    again = [REID.fit("light", data, FitOptions(seed=1, epochs=1, examples=8)) for _ in range(2)]
    assert outputs_of(again[1], data.test.x[:20]) == pytest.approx(outputs_of(again[0], data.test.x[:20]), abs=1e-5)


def test_a_few_epochs_are_better_than_colours_on_people_not_seen(data: Dataset, light: keras.Model) -> None:
    found = REID.score(outputs_of(light, data.test.x), data.test.y)["rank1"]
    assert found > REID.baseline(data, seed=0).metrics["rank1"] + 0.05


def test_the_weights_of_the_best_map_are_kept(data: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    short = {name: replace(recipe, people=2, batches=1, settle=1) for name, recipe in fitting.RECIPES.items()}
    monkeypatch.setattr(fitting, "RECIPES", short)
    seen: list[np.ndarray] = []

    def metrics(outputs: np.ndarray, _: object) -> dict[str, float]:
        seen.append(outputs)
        return [{"rank1": 0.9, "map": 0.5}, {"rank1": 0.8, "map": 0.7}, {"rank1": 0.8, "map": 0.6}][len(seen) - 1]

    monkeypatch.setattr(fitting, "reid_metrics", metrics)
    told: list[Epoch] = []
    kept = fitting.fit("light", data, FitOptions(seed=1, epochs=3, examples=8, progress=told.append))
    assert [each.quality for each in told] == [0.9, 0.8, 0.8]
    outputs = outputs_of(kept, data.valid.x)
    assert outputs == pytest.approx(seen[1], abs=1e-6)
    assert outputs != pytest.approx(seen[0], abs=1e-3)
    assert outputs != pytest.approx(seen[2], abs=1e-3)


@pytest.mark.usefixtures("eagerly")
def test_the_published_encoder_learns(data: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    short = {name: replace(recipe, people=2, batches=1) for name, recipe in fitting.RECIPES.items()}
    monkeypatch.setattr(fitting, "RECIPES", short)
    monkeypatch.setattr(fitting, "PICTURES_OF_EACH", 2)
    seen: list[Epoch] = []
    # A query and an entry of the gallery, of one person in two cameras.
    small = replace(data, valid=data.valid.rows(np.array([0, 5])))
    fitting.fit("published", small, FitOptions(seed=1, epochs=1, examples=6, progress=seen.append))
    assert np.isfinite(seen[0].loss)
    assert seen[0].quality == 1
    assert seen[0].picture == b""


@pytest.mark.long  # tests/system/test_topologies.py trains it, and looks for its picture in the report
def test_dg_net_learns_is_saved_and_its_picture_shows_what_it_paints(
    data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    short = {name: replace(recipe, people=4, batches=4) for name, recipe in fitting.RECIPES.items()}
    monkeypatch.setattr(fitting, "RECIPES", short)
    seen: list[Epoch] = []
    model = fitting.fit("heavy", data, FitOptions(seed=1, epochs=3, examples=8, progress=seen.append))
    assert seen[-1].loss < seen[0].loss
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras", compile=False, safe_mode=True)
    x = data.test.x[:2]
    assert outputs_of(with_batch(loaded, 2), x) == pytest.approx(outputs_of(model, x), abs=1e-5)

    (tmp_path / "drawn.png").write_bytes(seen[-1].picture)
    assert "at the left whose appearance, on top whose structure" in caption_of(tmp_path / "drawn.png")
    with Image.open(tmp_path / "drawn.png") as opened:
        table = np.asarray(opened)
    assert table.shape == (6 * 96, 9 * 48, 3)
    assert (table[:96, :48] == 255).all()
    # Pictures of people whom it has not learned from.
    for shown in (*table[:96, 48:].reshape(96, 8, 48, 3).swapaxes(0, 1), *table[96:, :48].reshape(5, 96, 48, 3)):
        assert (data.valid.x == shown).all(axis=(1, 2, 3)).sum() == 1
    # Appearances and structures both matter to what is made.
    made = table[96:, 48:].astype(np.int64)
    assert np.abs(made[:96] - made[96:192]).mean() > 0
    assert np.abs(made[:, :48] - made[:, 48:96]).mean() > 0


@pytest.mark.parametrize("quantisation", ["float32", "int8"])
def test_the_light_model_runs_on_litert(data: Dataset, light: keras.Model, quantisation: str) -> None:
    import tensorflow as tf

    converter = tf.lite.TFLiteConverter.from_keras_model(with_batch(light, 1))
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
    if quantisation == "int8":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.representative_dataset = lambda: ([row[None]] for row in data.train.x[:64])
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    interpreter = Interpreter(model_content=converter.convert(), num_threads=1)
    interpreter.allocate_tensors()
    (taken,), (given,) = interpreter.get_input_details(), interpreter.get_output_details()
    found = []
    for row in data.test.x[:50]:
        interpreter.set_tensor(taken["index"], row[None])
        interpreter.invoke()
        found.append(interpreter.get_tensor(given["index"])[0])
    alike = (np.array(found) * outputs_of(light, data.test.x[:50])).sum(axis=1)
    assert alike.mean() > (0.95 if quantisation == "int8" else 0.9999)
