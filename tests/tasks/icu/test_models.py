"""The networks: their sizes, their training and their conversion."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter

from edgebench.tasks import task_named
from edgebench.tasks.fitting import first_groups
from edgebench.tasks.icu.models import build, members_share
from edgebench.tasks.icu.task import IcuTask
from edgebench.tasks.models import outputs_of, with_batch
from edgebench.tasks.task import Dataset, Epoch, FitOptions, Split

# TensorFlow's converter warns of its own coming changes.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")


@pytest.fixture(scope="module")
def data() -> Dataset:
    return task_named("icu-decompensation").load(None, seed=1)


@pytest.fixture(scope="module")
def light(data: Dataset) -> keras.Model:
    return task_named("icu-decompensation").fit("light", data, FitOptions(seed=1, epochs=1, examples=100))


@pytest.mark.parametrize(
    ("name", "parameters"),
    [("icu-death", 7_569), ("icu-decompensation", 105_089), ("icu-heart-failure", 347_417)],
)
def test_the_published_shapes_have_the_published_numbers_of_parameters(
    data: Dataset, name: str, parameters: int
) -> None:
    task = task_named(name)
    assert isinstance(task, IcuTask)
    model = build("published", task.published, data.valid).model
    assert model.count_params() == parameters
    assert model.output_shape == (None, 1)


def test_outputs_are_probabilities_and_repeat_with_the_seed(data: Dataset, light: keras.Model) -> None:
    outputs = outputs_of(light, data.test.x)
    assert outputs.shape == (len(data.test), 1)
    assert outputs.dtype == np.float32
    assert ((outputs > 0) & (outputs < 1)).all()
    again = task_named("icu-decompensation").fit("light", data, FitOptions(seed=1, epochs=1, examples=100))
    assert outputs_of(again, data.test.x) == pytest.approx(outputs, abs=1e-5)


def test_absurd_values_give_a_probability_too(light: keras.Model) -> None:
    for value in (1e30, -1e30):
        output = outputs_of(light, np.full((1, 48, 76), value, np.float32))
        assert 0 <= float(output[0, 0]) <= 1


def test_more_patients_and_epochs_give_a_better_model(data: Dataset, light: keras.Model) -> None:
    task = task_named("icu-decompensation")
    seen: list[Epoch] = []
    better = task.fit("light", data, FitOptions(seed=1, epochs=2, examples=1_000, progress=seen.append))
    before, after = (task.score(outputs_of(m, data.test.x), data.test.y)["auroc"] for m in (light, better))
    assert before > 0.6
    assert after > before + 0.05
    assert [(e.epoch, e.epochs) for e in seen] == [(1, 2), (2, 2)]
    # Of a training no longer than the settling time the last epoch is kept.
    valid = task.score(outputs_of(better, data.valid.x), data.valid.y)["auroc"]
    assert valid == pytest.approx(seen[-1].quality, abs=1e-3)


def test_the_listed_numbers_of_parameters_are_those_of_the_generated_data(data: Dataset, light: keras.Model) -> None:
    task = task_named("icu-decompensation")
    assert isinstance(task, IcuTask)
    assert light.count_params() == task.models["light"].parameters
    assert build("heavy", task.published, data.valid).model.count_params() == task.models["heavy"].parameters


def test_examples_are_whole_patients_of_a_seeded_shuffle() -> None:
    group = np.repeat(np.arange(10), 3)
    split = Split(np.zeros((30, 48, 1), np.float32), np.zeros((30, 1), np.float32), group, key=group + 50)
    one, again, more = (first_groups(split, count, seed=2) for count in (4, 4, 6))
    assert len(one) == 12
    assert one.key is not None
    assert np.array_equal(one.key, one.group + 50)
    assert set(one.group) == set(again.group) < set(more.group)
    assert len(first_groups(split, 99, seed=2)) == 30
    assert set(first_groups(split, 4, seed=3).group) != set(one.group)


def test_members_share_the_blend_as_far_as_positive_patients_teach_them() -> None:
    # 250 patients of two samples each, of which one is positive.
    split = Split(np.zeros((500, 1), np.float32), np.tile([[0], [1]], (250, 1)).astype(np.float32), np.arange(500) // 2)
    assert members_share(split) == pytest.approx(0.2)


def test_the_heavy_model_converts_and_its_members_share_it(data: Dataset) -> None:
    network = build("heavy", "lstm-128", data.valid)
    heavy = network.model
    assert {layer.name for layer in network.trainee.layers} > {"course", "trend", "overview"}
    assert network.trainee.output_shape == (None, 3)
    assert heavy.get_layer("lstm") is network.trainee.get_layer("lstm")
    _check_conversion(heavy, data, 1, quantised=False, tolerance=1e-5)


@pytest.mark.parametrize("batch", [1, 32])
def test_a_fixed_batch_carries_the_weights_over(data: Dataset, light: keras.Model, batch: int) -> None:
    fixed = with_batch(light, batch)
    assert fixed.input_shape == (batch, 48, 76)
    assert fixed.output_shape == (batch, 1)
    x = data.test.x[:batch]
    assert outputs_of(fixed, x) == pytest.approx(outputs_of(light, x), abs=1e-6)
    assert light.input_shape == (None, 48, 76)


@pytest.mark.parametrize(("batch", "quantised", "tolerance"), [(1, True, 0.03), (32, False, 1e-5)])
def test_the_light_model_runs_on_litert(
    data: Dataset, light: keras.Model, batch: int, quantised: bool, tolerance: float
) -> None:
    _check_conversion(light, data, batch, quantised=quantised, tolerance=tolerance)


def _check_conversion(model: keras.Model, data: Dataset, batch: int, *, quantised: bool, tolerance: float) -> None:
    import tensorflow as tf

    converter = tf.lite.TFLiteConverter.from_keras_model(with_batch(model, batch))
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
    if quantised:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    interpreter = Interpreter(model_content=converter.convert(), num_threads=1)
    interpreter.allocate_tensors()
    (taken,), (given,) = interpreter.get_input_details(), interpreter.get_output_details()
    x = data.test.x[:batch]
    interpreter.set_tensor(taken["index"], x)
    interpreter.invoke()
    outputs = interpreter.get_tensor(given["index"])
    assert outputs.dtype == np.float32
    assert outputs == pytest.approx(outputs_of(model, x), abs=tolerance)
