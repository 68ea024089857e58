"""The networks: their sizes, their losses, their training and their conversion."""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter

from edgebench.seeds import rng_for
from edgebench.tasks import task_named
from edgebench.tasks.lanes.decoding import ANCHOR_OUTPUTS, EMBEDDING, GRID, SEGMENT_OUTPUTS, SLOTS
from edgebench.tasks.lanes.drawing import draw
from edgebench.tasks.lanes.fit import anchor_loss, segment_loss
from edgebench.tasks.lanes.generator import roads
from edgebench.tasks.lanes.models import COLUMNS, build
from edgebench.tasks.lanes.targets import anchors, segments
from edgebench.tasks.models import outputs_of, with_batch
from edgebench.tasks.task import Dataset, Epoch, FitOptions, Size, Split

# TensorFlow's converter warns of its own coming changes.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")

TASK = task_named("lane-detection")


@pytest.fixture(scope="module")
def data() -> Dataset:
    """Few roads; three splits of them."""
    labels = roads(96, rng_for(1, "test", "models"))
    x = draw(labels, seed=1, purpose="test")
    group = np.arange(96)
    train, valid, test = (
        Split(x[rows], labels[rows], group[rows]) for rows in (slice(64), slice(64, 80), slice(80, 96))
    )
    return Dataset("generated", False, ("red", "green", "blue"), train, valid, test)


@pytest.fixture(scope="module")
def light(data: Dataset) -> keras.Model:
    return TASK.fit("light", data, FitOptions(seed=1, epochs=1))


@pytest.mark.parametrize(("size", "outputs"), [("light", ANCHOR_OUTPUTS), ("heavy", SEGMENT_OUTPUTS)])
def test_models_have_the_listed_numbers_of_parameters(size: Size, outputs: int) -> None:
    model = build(size).model
    assert model.count_params() == TASK.models[size].parameters
    assert model.output_shape == (None, outputs)


def test_the_published_lanenet_has_the_parameters_of_enet_with_two_decoders(data: Dataset) -> None:
    # Weights, biases, 4 numbers a channel to normalise and one a channel of PReLU; a quarter of the channels inside.
    initial = 3 * 3 * 3 * 13 + 5 * 16
    regular_64 = 64 * 16 + 5 * 16 + 9 * 16 * 16 + 16 + 5 * 16 + 16 * 64 + 5 * 64
    down_64 = 4 * 16 * 16 + 5 * 16 + 9 * 16 * 16 + 16 + 5 * 16 + 16 * 64 + 5 * 64
    down_128 = 4 * 64 * 32 + 5 * 32 + 9 * 32 * 32 + 32 + 5 * 32 + 32 * 128 + 5 * 128
    regular_128 = 128 * 32 + 5 * 32 + 9 * 32 * 32 + 32 + 5 * 32 + 32 * 128 + 5 * 128
    asymmetric_128 = regular_128 + (5 + 5 - 9) * 32 * 32
    context = 6 * regular_128 + 2 * asymmetric_128
    up_64 = 128 * 16 + 4 * 16 + 9 * 16 * 16 + 16 + 4 * 16 + 16 * 64 + 4 * 64 + 128 * 64 + 4 * 64
    up_16 = 64 * 4 + 4 * 4 + 9 * 4 * 4 + 4 + 4 * 4 + 4 * 16 + 4 * 16 + 64 * 16 + 4 * 16
    last_64, last_16 = regular_64 - (16 + 16 + 64), 16 * 4 + 4 * 4 + 9 * 4 * 4 + 4 + 4 * 4 + 4 * 16 + 4 * 16
    decoder = context + up_64 + 2 * last_64 + up_16 + last_16
    heads = (4 * 16 + 1) * (1 + EMBEDDING)
    worked_out = initial + down_64 + 4 * regular_64 + down_128 + context + 2 * decoder + heads
    model = build("published").model
    assert model.count_params() == TASK.models["published"].parameters == worked_out == 546_740
    assert model.output_shape == (None, SEGMENT_OUTPUTS)
    # Tracing its graph takes longer than many steps.
    model.compile(keras.optimizers.Adam(1e-3), segment_loss, run_eagerly=True, jit_compile=False)
    before = model.get_weights()[0]
    assert np.isfinite(model.train_on_batch(data.train.x[:1], segments(data.train.y[:1])))
    assert not np.array_equal(before, model.get_weights()[0])


def test_the_anchor_loss_is_small_for_what_is_right_and_counts_no_absent_place() -> None:
    places = SLOTS * GRID[0]
    true = np.full((1, places), -2.0, np.float32)
    # Column 10 is between 0.25 and 0.275: its middle is 0.2625.
    true[0, 5] = 0.2625
    odds = np.zeros((1, places, COLUMNS), np.float32)
    odds[0, 5, 10] = 30.0
    x = np.zeros((1, places), np.float32)
    x[0, 5] = 0.2625
    there = np.where(true >= 0, 30.0, -30.0).astype(np.float32)

    def loss(odds: np.ndarray, x: np.ndarray, there: np.ndarray) -> float:
        outputs = np.concatenate([odds.reshape(1, -1), x, there], axis=1).astype(np.float32)
        return float(keras.ops.convert_to_numpy(anchor_loss(keras.ops.array(true), keras.ops.array(outputs)))[0])

    assert loss(odds, x, there) == pytest.approx(0, abs=1e-4)
    assert loss(np.zeros_like(odds), x, there) == pytest.approx(np.log(40), rel=1e-4)
    assert loss(odds, x + 0.025, there) == pytest.approx(1, rel=1e-3)
    # A probability of one half at every place costs 4 · log 2.
    assert loss(odds, x, 0 * there) == pytest.approx(4 * np.log(2), rel=1e-4)


def test_the_segment_loss_pulls_a_lane_together_and_pushes_lanes_apart() -> None:
    true = np.zeros((1, GRID[0] * GRID[1]), np.uint8)
    true[0, :4], true[0, 4:8] = 1, 2
    cells = np.zeros((1, GRID[0] * GRID[1], 1 + EMBEDDING), np.float32)
    cells[0, :, 0] = np.where(true[0] > 0, 40, -40)

    def loss() -> float:
        outputs = keras.ops.array(cells.reshape(1, -1))
        return float(keras.ops.convert_to_numpy(segment_loss(keras.ops.array(true), outputs))[0])

    cells[0, 4:8, 1] = 3.0
    assert loss() == pytest.approx(0, abs=1e-4)
    # Means 1 apart instead of 3: (3 - 1)².
    cells[0, 4:8, 1] = 1.0
    assert loss() == pytest.approx(4, rel=1e-3)
    # Cells of the first lane 1.5 off their mean: (1.5 - 0.5)², in one lane of two; means remain 10 apart.
    cells[0, 4:8, 1] = 10.0
    cells[0, :4, 2] = [1.5, -1.5, 1.5, -1.5]
    assert loss() == pytest.approx(0.5, rel=1e-3)


def test_a_seed_repeats_its_model_and_one_epoch_learns_something(data: Dataset, light: keras.Model) -> None:
    seen: list[Epoch] = []
    again = TASK.fit("light", data, FitOptions(seed=1, epochs=1, progress=seen.append))
    outputs = outputs_of(light, data.test.x)
    assert outputs_of(again, data.test.x) == pytest.approx(outputs, abs=1e-4)
    assert [(epoch.epoch, epoch.epochs) for epoch in seen] == [(1, 1)]
    assert TASK.score(outputs_of(again, data.valid.x), data.valid.y)["accuracy"] == pytest.approx(
        seen[0].quality, abs=1e-3
    )
    x, there = outputs[:, : ANCHOR_OUTPUTS // 2], outputs[:, ANCHOR_OUTPUTS // 2 :]
    assert ((x >= 0) & (x <= 1) & (there >= 0) & (there <= 1)).all()
    known = anchors(data.test.y) >= 0
    assert there[known].mean() > there[~known].mean() + 0.05


def test_the_heavy_model_trains_and_its_outputs_are_scored(data: Dataset) -> None:
    model = TASK.fit("heavy", data, FitOptions(seed=1, epochs=1, examples=16))
    found = TASK.score(outputs_of(model, data.test.x), data.test.y)
    assert set(found) == {"accuracy", "fp", "fn", "points"}
    assert all(np.isfinite(value) for value in found.values())
    low, high = TASK.intervals(outputs_of(model, data.test.x), data.test.y, seed=1, group=data.test.group)["accuracy"]
    assert low <= found["accuracy"] <= high


def test_a_saved_model_is_the_same_and_a_fixed_batch_keeps_its_weights(
    tmp_path: Path, data: Dataset, light: keras.Model
) -> None:
    light.save(tmp_path / "light.keras")
    loaded = keras.models.load_model(tmp_path / "light.keras", compile=False, safe_mode=True)
    x = data.test.x[:8]
    assert outputs_of(loaded, x) == pytest.approx(outputs_of(light, x), abs=1e-6)
    fixed = with_batch(loaded, 8)
    assert fixed.output_shape == (8, ANCHOR_OUTPUTS)
    assert outputs_of(fixed, x) == pytest.approx(outputs_of(light, x), abs=1e-5)


def test_light_and_heavy_run_on_litert(data: Dataset, light: keras.Model) -> None:
    x = data.test.x[:1]
    assert _on_litert(light, x, quantised=False) == pytest.approx(outputs_of(light, x), abs=1e-4)
    assert _on_litert(light, x, quantised=True) == pytest.approx(outputs_of(light, x), abs=0.2)
    heavy = build("heavy").model
    assert _on_litert(heavy, x, quantised=False) == pytest.approx(outputs_of(heavy, x), abs=1e-3)


def _on_litert(model: keras.Model, x: np.ndarray, *, quantised: bool) -> np.ndarray:
    import tensorflow as tf

    converter = tf.lite.TFLiteConverter.from_keras_model(with_batch(model, 1))
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
    if quantised:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    interpreter = Interpreter(model_content=converter.convert(), num_threads=1)
    interpreter.allocate_tensors()
    (taken,), (given,) = interpreter.get_input_details(), interpreter.get_output_details()
    interpreter.set_tensor(taken["index"], x)
    interpreter.invoke()
    found: np.ndarray = interpreter.get_tensor(given["index"])
    return found
