"""The networks: their sizes, their training and their conversion."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter
from keras import ops

from edgebench.seeds import rng_for
from edgebench.tasks import task_named
from edgebench.tasks.models import outputs_of, with_batch
from edgebench.tasks.speech.audio import lengths
from edgebench.tasks.speech.fit import augmented, ctc
from edgebench.tasks.speech.models import build
from edgebench.tasks.speech.transcripts import ALPHABET, encode
from edgebench.tasks.task import Dataset, Epoch, FitOptions, Size

# TensorFlow's converter warns of its own coming changes.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")

TASK = task_named("speech-recognition")


@pytest.fixture(scope="module")
def data() -> Dataset:
    """A batch to train on, and few to choose by."""
    data = TASK.load(None, seed=1)
    return replace(data, train=data.train.rows(np.arange(60)), valid=data.valid.rows(np.arange(20)))


@pytest.fixture(scope="module")
def light(data: Dataset) -> keras.Model:
    return TASK.fit("light", data, FitOptions(seed=1, epochs=1, examples=1))


def test_the_listed_numbers_of_parameters_are_those_of_the_models() -> None:
    for size in ("light", "heavy"):
        assert build(size, 8_000).count_params() == TASK.models[size].parameters


def test_the_published_shape_has_the_parameters_worked_out_from_it_and_learns_a_step(data: Dataset) -> None:
    # Batch normalisation has 4 a channel. Of 161 bins, strides of 2 leave 81, then 41, in 32 channels.
    convolutions = 11 * 41 * 32 + 4 * 32 + 11 * 21 * 32 * 32 + 4 * 32
    # 3 gates in 2 directions: inputs, own state, and two biases.
    first, other = (2 * 3 * 800 * (inputs + 800 + 2) for inputs in (41 * 32, 800))
    characters = 800 * 29 + 29
    expected = convolutions + first + 4 * other + 5 * 4 * 800 + characters
    assert expected == 41_196_061
    assert TASK.models["published"].parameters == expected
    model = build("published", 800)
    assert model.count_params() == expected
    before = model.get_layer("characters").get_weights()[0]
    model.compile(keras.optimizers.SGD(1e-3), ctc, run_eagerly=True)
    assert np.isfinite(model.train_on_batch(data.train.x[:1, :800], encode(["on"])))
    assert not np.array_equal(model.get_layer("characters").get_weights()[0], before)


def test_outputs_are_log_probabilities_of_steps_of_20_ms(data: Dataset, light: keras.Model) -> None:
    outputs = outputs_of(light, data.test.x[:50])
    assert outputs.dtype == np.float32
    assert outputs.shape == (50, 49 * ALPHABET)
    assert np.exp(outputs.reshape(50, 49, ALPHABET)).sum(axis=2) == pytest.approx(1, abs=1e-5)


def test_training_repeats_with_the_seed_and_tells_its_progress(data: Dataset, light: keras.Model) -> None:
    seen: list[Epoch] = []
    again = TASK.fit("light", data, FitOptions(seed=1, epochs=1, examples=1, progress=seen.append))
    x = data.test.x[:20]
    assert outputs_of(again, x) == pytest.approx(outputs_of(light, x), abs=1e-4)
    assert [(epoch.epoch, epoch.epochs) for epoch in seen] == [(1, 1)]
    valid = TASK.score(outputs_of(again, data.valid.x), data.valid.y)["word_accuracy"]
    assert seen[0].quality == pytest.approx(valid, abs=1e-3)


def test_silence_and_the_loudest_sound_give_log_probabilities_too(light: keras.Model) -> None:
    for value in (0, 32_767, -32_768):
        assert np.isfinite(outputs_of(light, np.full((1, 8_000), value, np.int16))).all()


def test_loudness_decides_nothing(data: Dataset, light: keras.Model) -> None:
    loud = data.test.x[np.abs(data.test.x.astype(int)).max(axis=1) > 8_000][:5]
    assert outputs_of(light, loud // 2) == pytest.approx(outputs_of(light, loud), abs=0.02)


def test_the_loss_is_the_negative_log_likelihood_of_the_characters() -> None:
    # Two steps, "a" likely to 0.6 and 0.5, the blank to 0.3 and 0.2: aa, a_ and _a say "a".
    outputs = np.full((1, 2, ALPHABET), 1e-6, np.float32)
    outputs[0, :, 3], outputs[0, :, 0] = (0.6, 0.5), (0.3, 0.2)
    outputs /= outputs.sum(axis=2, keepdims=True)
    labels = np.array([[3, -1, -1]], np.float32)
    assert encode(["a"])[0, 0] == 3
    loss = ops.convert_to_numpy(
        ctc(ops.convert_to_tensor(labels), ops.convert_to_tensor(np.log(outputs).reshape(1, -1)))
    )
    expected = -np.log((0.6 * 0.5 + 0.6 * 0.2 + 0.3 * 0.5) / (0.9 * 0.7))
    assert loss == pytest.approx([expected], abs=1e-3)


def test_augmented_sounds_are_moved_stretched_and_noisy() -> None:
    x = np.zeros((200, 1_000), np.int16)
    x[:, :400] = 10_000
    x[0] = 10_000
    found = augmented(x, rng_for(1, "augmented"))
    assert found.shape == x.shape
    assert found.dtype == np.int16
    loud = np.abs(found[1:].astype(int)) > 5_000
    first, length = loud.argmax(axis=1), loud.sum(axis=1)
    # 400 samples at 0.85 to 1.15 times the speed, beginning in the first 0.3 of the window.
    assert length.min() == pytest.approx(400 / 1.15, abs=8)
    assert length.max() == pytest.approx(400 / 0.85, abs=8)
    assert first.min() < 15
    assert 270 < first.max() <= 300
    # A sound that fills its window stays in it.
    assert (np.abs(found[0].astype(int)) > 5_000).sum() > 990 / 1.15
    assert found[1:, 900:].std() > 0


def test_silence_is_augmented_to_silence() -> None:
    silence = np.zeros((2, 500), np.int16)
    assert not augmented(silence, rng_for(1, "augmented")).any()
    assert lengths(silence).tolist() == [0, 0]


@pytest.mark.parametrize("size", ["light", "heavy"])
def test_a_saved_model_runs_on_litert_as_in_keras(
    data: Dataset, light: keras.Model, tmp_path: Path, size: Size
) -> None:
    x = data.test.x[:1]
    (light if size == "light" else build(size, 8_000)).save(tmp_path / "model.keras")
    model = keras.models.load_model(tmp_path / "model.keras", compile=False, safe_mode=True)
    assert _litert(model, x) == pytest.approx(outputs_of(model, x), abs=1e-3)


def _litert(model: keras.Model, x: np.ndarray) -> np.ndarray:
    import tensorflow as tf

    converter = tf.lite.TFLiteConverter.from_keras_model(with_batch(model, len(x)))
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
    interpreter = Interpreter(model_content=converter.convert(), num_threads=1)
    interpreter.allocate_tensors()
    (taken,), (given,) = interpreter.get_input_details(), interpreter.get_output_details()
    interpreter.set_tensor(taken["index"], x)
    interpreter.invoke()
    return interpreter.get_tensor(given["index"])
