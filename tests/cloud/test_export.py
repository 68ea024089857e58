"""Conversion in a child process."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import keras
import msgspec
import numpy as np
import pytest

from cloud.export import Conversion, Converter, check_quantisation
from edgebench.errors import ModelError
from edgebench.inference.runtime import open_runtime
from edgebench.inference.spec import TensorSpec
from edgebench.seeds import rng_for
from edgebench.tasks.models import outputs_of
from edgebench.tasks.signs.capsules import squash
from tests.cloud.tiny import NAME
from tests.cloud.trained import Session, tiny_session


@pytest.fixture(scope="module")
def session() -> Session:
    return tiny_session()


@pytest.fixture(scope="module")
def converter() -> Iterator[Converter]:
    with Converter() as converter:
        yield converter


def conversion(session: Session, tmp_path: Path, size: str, quantisation: str) -> Conversion:
    samples = tmp_path / "samples.npy"
    np.save(samples, np.load(session.streams / "x.npy")[:64])
    model = session.file(size, "keras", "float32").path
    return Conversion(NAME, model, quantisation, str(samples), str(tmp_path / f"{quantisation}.tflite"))


def test_a_crash_of_the_converter_is_an_error_and_the_next_conversion_works(
    session: Session, converter: Converter, tmp_path: Path
) -> None:
    with pytest.raises(ModelError) as caught:
        converter.convert(conversion(session, tmp_path, "heavy", "int8"))
    expected = "int8: the converter crashed (signal 11, SIGSEGV): full-integer recurrent layers are not supported by it"
    assert str(caught.value) == expected
    converter.convert(conversion(session, tmp_path, "heavy", "float16"))
    assert (tmp_path / "float16.tflite").stat().st_size > 1_000


def test_a_model_that_does_not_load_is_an_error_in_one_line(converter: Converter, tmp_path: Path) -> None:
    (tmp_path / "broken.keras").write_bytes(b"nonsense")
    broken = Conversion(NAME, str(tmp_path / "broken.keras"), "float32", None, str(tmp_path / "out"))
    with pytest.raises(ModelError, match=r"^float32: ValueError: .*broken\.keras") as caught:
        converter.convert(broken)
    assert "\n" not in str(caught.value)


def test_a_full_integer_model_takes_bytes_where_its_keras_model_does(
    session: Session, converter: Converter, tmp_path: Path
) -> None:
    keras.utils.set_random_seed(2)
    inside = [
        keras.layers.Rescaling(1 / 127.5, offset=-1.0),
        keras.layers.Conv2D(8, 3, strides=2, activation="relu"),
        keras.layers.Flatten(),
        keras.layers.Dense(4, activation="softmax"),
    ]
    model = keras.Sequential([keras.Input((12, 12, 3), dtype="uint8"), *inside])
    model.save(tmp_path / "model.keras")
    x = rng_for(1, "pictures").integers(0, 256, (64, 12, 12, 3), np.uint8)
    np.save(tmp_path / "x.npy", x)
    out = tmp_path / "int8.tflite"
    converter.convert(Conversion(NAME, str(tmp_path / "model.keras"), "int8", str(tmp_path / "x.npy"), str(out)))
    described = msgspec.structs.replace(
        session.file("light", "litert", "int8").manifest, input=TensorSpec("uint8", (12, 12, 3)), outputs=4
    )
    runtime = open_runtime(out, described)  # which refuses a file that takes anything but bytes
    expected = outputs_of(model, x)
    for n in (1, 8, 33):
        outputs = runtime.infer(x[:n])
        assert outputs.dtype == np.float32
        np.testing.assert_allclose(outputs, expected[:n], atol=0.02)
    runtime.close()
    assert np.ptp(expected, axis=0).max() > 0.1  # they differ by more than that


def test_what_full_integer_arithmetic_cannot_compute_is_an_error_and_squashing_is_none_of_it(
    session: Session, converter: Converter, tmp_path: Path
) -> None:
    x = rng_for(1, "vectors").normal(0, 20, (64, 2, 3)).astype(np.float32)
    x[::2] /= 100
    np.save(tmp_path / "x.npy", x)
    vectors = keras.Input((2, 3))
    # Both are v = |s|² / (1 + |s|²) · s / |s|; the divisor of the first is as good as 0 beside its largest values.
    square = keras.ops.sum(keras.ops.square(vectors), axis=-1, keepdims=True)
    divided = vectors * (keras.ops.sqrt(square) / (1.0 + square))
    made = []
    for number, result in enumerate((divided, squash(vectors))):
        model = keras.Model(vectors, keras.ops.reshape(result, (-1, 6)))
        keras_file, out = tmp_path / f"{number}.keras", tmp_path / f"{number}.tflite"
        model.save(keras_file)
        converter.convert(Conversion(NAME, str(keras_file), "int8", str(tmp_path / "x.npy"), str(out)))
        made.append(out)
    described = msgspec.structs.replace(
        session.file("light", "litert", "int8").manifest, input=TensorSpec("float32", (2, 3)), outputs=6
    )
    with pytest.raises(ModelError, match=r"0\.tflite: does not run: .*div"):
        open_runtime(made[0], described).infer(x)
    outputs = open_runtime(made[1], described).infer(x)
    assert np.abs(outputs).max() == pytest.approx(1, abs=0.1)


def test_a_runtime_is_offered_only_the_quantisations_that_it_has() -> None:
    check_quantisation("litert", "int8")
    with pytest.raises(ModelError, match="fake models are not made in dynamic; there is float32"):
        check_quantisation("fake", "dynamic")
