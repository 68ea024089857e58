"""Training steps as LiteRT graphs: which networks convert, that they learn as Keras does, and what is said if not."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import keras
import msgspec
import numpy as np
import pytest
from keras import layers, ops

from cloud.export import Converter, StepConversion
from edgebench.errors import ModelError
from edgebench.federated.keras_stepper import KerasStepper
from edgebench.federated.learner import LocalPlan, StepSpec, fit
from edgebench.federated.litert_stepper import LiteRtStepper
from edgebench.inference.spec import TensorSpec
from edgebench.seeds import rng_for
from edgebench.tasks import task_named
from edgebench.tasks.icu.models import build
from edgebench.tasks.signs.models import build as build_for_signs
from edgebench.tasks.task import Loss
from tests.federated.learning import initial_weights, largest_difference

BATCH = 4
PLAN = LocalPlan(epochs=4, batch_size=BATCH, learning_rate=0.02, momentum=0.9, clip_norm=1.0, proximal_mu=0.1)


@pytest.fixture(scope="module")
def converter() -> Iterator[Converter]:
    with Converter() as converter:
        yield converter


def conversion(model: keras.Model, directory: Path, loss: Loss = "mean_squared_error") -> StepConversion:
    path = directory / "model.keras"
    model.save(path)
    return StepConversion("icu-death", str(path), loss, BATCH, str(directory / "step.tflite"))


def assert_learns_as_keras_does(converter: Converter, asked: StepConversion) -> None:
    """Four epochs of three batches, the last of them with a sample that does not count."""
    spec = converter.convert_step(asked)
    rng = rng_for(5, "samples")
    x = rng.normal(size=(3 * BATCH - 1, *spec.input.shape)).astype(np.float32)
    y = (rng.random((len(x), *spec.label_shape)) < 0.5).astype(np.float32)
    weights = initial_weights(Path(asked.model))
    here = fit(LiteRtStepper(Path(asked.out)), weights, x, y, PLAN, seed=5)
    there = fit(KerasStepper(Path(asked.model), asked.loss), weights, x, y, PLAN, seed=5)
    assert here.steps == 12
    assert here.loss == pytest.approx(there.loss, rel=1e-4)
    assert largest_difference(here.weights, there.weights) < 1e-4
    learned = [not np.array_equal(before, after) for before, after in zip(weights, here.weights, strict=True)]
    assert all(learned)


def pooled(pool: keras.layers.Layer) -> keras.Model:
    """Overlapping and cut-off windows: neither size nor stride divides 9 or 7."""
    inside = [layers.Conv2D(3, (3, 2), padding="same"), pool, layers.Flatten(), layers.Dense(2)]
    return keras.Sequential([keras.Input((9, 7, 2)), *inside])


def convolved(**how: Any) -> keras.Model:
    between = layers.Conv2D(3, **how)
    inside = [layers.Conv2D(2, 1), between, layers.GlobalAveragePooling2D(), layers.Dense(2)]
    return keras.Sequential([keras.Input((9, 7, 2)), *inside])


def activated(name: str) -> keras.Model:
    return keras.Sequential([keras.Input((6,)), layers.Dense(5, activation=name), layers.Dense(2)])


def recurrent(*inside: keras.layers.Layer) -> keras.Model:
    return keras.Sequential([keras.Input((6, 3)), *inside, layers.Dense(2)])


def woven() -> keras.Model:
    """What a chain of layers does not do: a tensor that is used several times, and parts of one."""
    inputs = keras.Input((6,))
    hidden = layers.Dense(8, activation="tanh")(inputs)
    left, right = ops.split(hidden * hidden, 2, axis=1)
    joined = ops.concatenate([left, hidden[:, 1:4], ops.maximum(left, right)], axis=1)
    return keras.Model(inputs, layers.Dense(2)(joined))


NETWORKS: dict[str, Callable[[], keras.Model]] = {
    "max pooling, valid": lambda: pooled(layers.MaxPooling2D(3, strides=2)),
    "max pooling, same": lambda: pooled(layers.MaxPooling2D((2, 3), strides=(2, 1), padding="same")),
    "average pooling, valid": lambda: pooled(layers.AveragePooling2D(2)),
    "average pooling, same": lambda: pooled(layers.AveragePooling2D(3, strides=2, padding="same")),
    "global max pooling": lambda: pooled(layers.GlobalMaxPooling2D()),
    "convolution, same": lambda: convolved(kernel_size=(2, 3), padding="same"),
    "convolution, valid": lambda: convolved(kernel_size=3),
    "convolution, same, stride 2": lambda: convolved(kernel_size=3, padding="same", strides=2),
    "convolution, valid, stride 2": lambda: convolved(kernel_size=2, strides=2),
    "convolution, strides 3 and 1": lambda: convolved(kernel_size=2, strides=(3, 1)),
    "convolution of a series": lambda: keras.Sequential(
        [
            keras.Input((9, 3)),
            layers.Conv1D(4, 3, strides=2, activation="relu"),
            layers.MaxPooling1D(),
            layers.Flatten(),
            layers.Dense(2),
        ]
    ),
    "elu": lambda: activated("elu"),
    "leaky relu": lambda: activated("leaky_relu"),
    "relu6": lambda: activated("relu6"),
    "silu": lambda: activated("silu"),
    "softplus": lambda: activated("softplus"),
    "normalised layer": lambda: keras.Sequential(
        [keras.Input((6,)), layers.Dense(5), layers.LayerNormalization(), layers.Dense(2)]
    ),
    "normalised batch": lambda: keras.Sequential(
        [keras.Input((6,)), layers.Dense(5), layers.BatchNormalization(), layers.Dense(2)]
    ),
    "both ways": lambda: recurrent(layers.Bidirectional(layers.LSTM(3, return_sequences=True)), layers.LSTM(2)),
    "GRU": lambda: recurrent(layers.GRU(3)),
    "a layer for every step": lambda: recurrent(
        layers.SimpleRNN(3, return_sequences=True), layers.Dense(2), layers.Flatten()
    ),
    "woven": woven,
}


@pytest.mark.parametrize("name", NETWORKS)
def test_a_converted_step_learns_as_keras_does(converter: Converter, tmp_path: Path, name: str) -> None:
    keras.utils.set_random_seed(3)
    assert_learns_as_keras_does(converter, conversion(NETWORKS[name](), tmp_path))


def test_the_light_model_for_intensive_care_learns_as_keras_does(converter: Converter, tmp_path: Path) -> None:
    task = task_named("icu-death")
    keras.utils.set_random_seed(3)
    model = build("light", "bilstm-8-lstm-16", task.load(None, seed=1).train.rows(np.arange(40))).model
    assert_learns_as_keras_does(converter, conversion(model, tmp_path, "binary_crossentropy"))


@pytest.mark.parametrize("size", ["light", "heavy"])
def test_the_models_for_traffic_signs_learn_as_keras_does(
    converter: Converter, tmp_path: Path, size: Literal["light", "heavy"]
) -> None:
    task = task_named("sign-recognition")
    keras.utils.set_random_seed(3)
    asked = conversion(build_for_signs(size).model, tmp_path, "sparse_categorical_crossentropy")
    spec = converter.convert_step(asked)
    assert (spec.input, spec.label_shape) == (TensorSpec("uint8", (32, 32, 3)), (1,))
    signs = task.load(None, seed=1).train
    x, y = signs.x[: 3 * BATCH - 1], signs.y[: 3 * BATCH - 1]
    weights = initial_weights(Path(asked.model))
    here = fit(LiteRtStepper(Path(asked.out)), weights, x, y, PLAN, seed=5)
    there = fit(KerasStepper(Path(asked.model), asked.loss), weights, x, y, PLAN, seed=5)
    assert here.loss == pytest.approx(there.loss, rel=1e-3)
    assert largest_difference(here.weights, there.weights) < 1e-3
    assert not np.array_equal(weights[-1], here.weights[-1])


def test_what_a_step_takes_is_written_beside_it(converter: Converter, tmp_path: Path) -> None:
    model = keras.Sequential(
        [keras.Input((4, 4, 1)), layers.Flatten(), layers.Dense(3, activation="softmax", name="class")]
    )
    asked = conversion(model, tmp_path, "sparse_categorical_crossentropy")
    spec = converter.convert_step(asked)
    assert spec == StepSpec(
        names=("class/kernel", "class/bias"),
        shapes=((16, 3), (3,)),
        batch=BATCH,
        input=TensorSpec("float32", (4, 4, 1)),
        label_shape=(1,),
        loss="sparse_categorical_crossentropy",
    )
    assert msgspec.json.decode((tmp_path / "step.json").read_bytes(), type=StepSpec) == spec


def test_what_is_not_trainable_is_no_weight_and_stays(converter: Converter, tmp_path: Path) -> None:
    fixed = layers.Dense(3, trainable=False)
    model = keras.Sequential([keras.Input((6,)), fixed, layers.Dense(2, name="head")])
    asked = conversion(model, tmp_path)
    assert converter.convert_step(asked).names == ("head/kernel", "head/bias")
    assert_learns_as_keras_does(converter, asked)


def test_weights_without_a_slope_stay(converter: Converter, tmp_path: Path) -> None:
    inputs = keras.Input((6,))
    cut_off = ops.stop_gradient(layers.Dense(3)(inputs))
    asked = conversion(keras.Model(inputs, layers.Dense(2)(cut_off)), tmp_path)
    spec = converter.convert_step(asked)
    weights = initial_weights(Path(asked.model))
    x, y = np.ones((BATCH, 6), np.float32), np.ones((BATCH, *spec.label_shape), np.float32)
    done = fit(LiteRtStepper(Path(asked.out)), weights, x, y, PLAN, seed=5)
    stayed = [np.array_equal(before, after) for before, after in zip(weights, done.weights, strict=True)]
    assert stayed == [True, True, False, False]


def test_operations_in_the_way_are_named_with_their_layer(converter: Converter, tmp_path: Path) -> None:
    inside = [layers.DepthwiseConv2D(3, name="looking"), layers.Flatten(), layers.Dense(2)]
    model = keras.Sequential([keras.Input((6, 6, 2)), *inside])
    with pytest.raises(ModelError) as caught:
        converter.convert_step(conversion(model, tmp_path))
    assert str(caught.value) == (
        "the training step needs DepthwiseConv2dNativeBackpropFilter (layer 'looking'), which LiteRT lacks; "
        "use fit: {runtime: keras}"
    )


def test_a_layer_that_learns_only_parts_of_its_weights_is_named(converter: Converter, tmp_path: Path) -> None:
    inside = [layers.Embedding(10, 4, name="words"), layers.Flatten(), layers.Dense(2)]
    model = keras.Sequential([keras.Input((5,), dtype="int32"), *inside])
    with pytest.raises(ModelError, match=r"needs the sparse derivative of \w+ \(layer 'words'\), which LiteRT lacks"):
        converter.convert_step(conversion(model, tmp_path))


def test_a_crash_of_the_converter_is_an_error_and_the_next_conversion_works(
    converter: Converter, tmp_path: Path
) -> None:
    asked = conversion(activated("tanh"), tmp_path)
    crashing = msgspec.structs.replace(asked, task="tests.cloud.crashing:TASK")
    with pytest.raises(ModelError, match=r"^training step: the converter crashed \(signal 6, SIGABRT\)$"):
        converter.convert_step(crashing)
    assert converter.convert_step(asked).batch == BATCH


def test_a_model_that_does_not_load_is_an_error_in_one_line(converter: Converter, tmp_path: Path) -> None:
    (tmp_path / "broken.keras").write_bytes(b"nonsense")
    broken = StepConversion("icu-death", str(tmp_path / "broken.keras"), "mean_squared_error", 4, str(tmp_path / "out"))
    with pytest.raises(ModelError, match=r"^training step: ValueError: .*broken\.keras") as caught:
        converter.convert_step(broken)
    assert "\n" not in str(caught.value)
