"""LiteRT files: one file, several batch sizes, several number formats."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest

from edgebench.errors import ModelError
from edgebench.inference.litert import LiteRtRuntime
from edgebench.inference.runtime import open_runtime
from edgebench.inference.spec import TensorSpec
from tests.cloud.trained import Session, tiny_session


@pytest.fixture(scope="module")
def session() -> Session:
    return tiny_session()


@pytest.fixture(scope="module")
def x(session: Session) -> np.ndarray:
    return np.asarray(np.load(session.streams / "x.npy"))


@pytest.fixture(scope="module")
def reference(session: Session, x: np.ndarray) -> dict[str, np.ndarray]:
    found = {}
    for size in ("light", "heavy"):
        file = session.file(size, "keras", "float32")
        runtime = open_runtime(Path(file.path), file.manifest)
        found[size] = runtime.infer(x)
        runtime.close()
    return found


@pytest.mark.parametrize(
    ("size", "quantisation", "tolerance"),
    [
        ("light", "float32", 1e-5),
        ("light", "float16", 2e-3),
        ("light", "dynamic", 2e-2),
        ("light", "int8", 5e-2),
        ("heavy", "float32", 1e-5),
        ("heavy", "dynamic", 2e-2),
    ],
)
def test_a_file_decides_like_the_keras_model_whatever_the_number_of_samples(
    session: Session, x: np.ndarray, reference: dict[str, np.ndarray], size: str, quantisation: str, tolerance: float
) -> None:
    file = session.file(size, "litert", quantisation)
    assert file.manifest.batches == (1, 8, 32)
    runtime = open_runtime(Path(file.path), file.manifest, warm_for=32)
    for n in (1, 2, 5, 8, 9, 31, 32, 33, 70):
        outputs = runtime.infer(x[:n])
        assert outputs.shape == (n, 1)
        assert outputs.dtype == np.float32
        np.testing.assert_allclose(outputs, reference[size][:n], atol=tolerance)
    runtime.close()


def test_a_decision_does_not_depend_on_the_samples_before_it(session: Session, x: np.ndarray) -> None:
    file = session.file("heavy", "litert", "float32")
    runtime = open_runtime(Path(file.path), file.manifest)
    first = runtime.infer(x[:1])
    runtime.infer(x[1:2] * 100)
    np.testing.assert_array_equal(runtime.infer(x[:1]), first)


def test_outputs_stay_as_they_are_when_more_is_decided(session: Session, x: np.ndarray) -> None:
    file = session.file("light", "litert", "float32")
    runtime = open_runtime(Path(file.path), file.manifest)
    first = runtime.infer(x[:1])
    kept = first.copy()
    runtime.infer(x[1:2])
    np.testing.assert_array_equal(first, kept)


def test_weights_that_batch_sizes_have_in_common_are_stored_once(session: Session) -> None:
    from ai_edge_litert import schema_py_generated as schema

    content = Path(session.file("heavy", "litert", "float32").path).read_bytes()
    model = schema.ModelT.InitFromPackedBuf(content, 0)
    buffers = [bytes(b.data) for b in model.buffers if b.data is not None and len(b.data)]
    assert len(buffers) == len(set(buffers))
    # The LSTM's kernel is 3 × 16 float32, in its graph once transposed; nothing of that size comes twice.
    assert sum(len(b) == 3 * 16 * 4 for b in buffers) == 1
    assert [s.signatureKey for s in model.signatureDefs] == [b"batch_1", b"batch_8", b"batch_32"]


def test_constant_data_is_aligned(session: Session) -> None:
    from ai_edge_litert import schema_py_generated as schema

    content = np.fromfile(session.file("heavy", "litert", "float32").path, np.uint8)
    model = schema.Model.GetRootAs(content, 0)
    start = content.__array_interface__["data"][0]
    vectors = [model.Buffers(i).DataAsNumpy() for i in range(model.BuffersLength())]
    offsets = [v.__array_interface__["data"][0] - start for v in vectors if isinstance(v, np.ndarray) and len(v)]
    assert offsets
    assert all(offset % 16 == 0 for offset in offsets)


def test_a_file_that_is_no_model_is_an_error_that_names_it(session: Session, tmp_path: Path) -> None:
    (tmp_path / "m.tflite").write_bytes(b"nonsense" * 20)
    with pytest.raises(ModelError, match=r"m\.tflite: not a LiteRT model that runs here"):
        LiteRtRuntime(tmp_path / "m.tflite", session.file("light", "litert", "float32").manifest)


def test_a_file_of_another_shape_than_its_manifest_says_is_refused(session: Session) -> None:
    file = session.file("light", "litert", "float32")
    wrong = msgspec.structs.replace(file.manifest, input=TensorSpec("float32", (8, 4)))
    with pytest.raises(ModelError, match=r"takes float32 \(1, 8, 3\), where its manifest says float32 \(1, 8, 4\)"):
        LiteRtRuntime(Path(file.path), wrong)
    wrong = msgspec.structs.replace(file.manifest, outputs=2)
    with pytest.raises(ModelError, match="gives 1 values, where its manifest says 2"):
        LiteRtRuntime(Path(file.path), wrong)


def test_a_batch_size_that_the_file_lacks_is_an_error(session: Session, x: np.ndarray) -> None:
    file = session.file("light", "litert", "float32")
    runtime = LiteRtRuntime(Path(file.path), msgspec.structs.replace(file.manifest, batches=(1, 16)))
    with pytest.raises(ModelError, match="does not run at batch size 16"):
        runtime.infer(x[:16])
