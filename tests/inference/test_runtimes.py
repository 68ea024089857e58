"""The runtime table, the fake and the Keras runtime, and the choice of batch sizes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import msgspec
import numpy as np
import pytest

from edgebench.clock import now_s
from edgebench.errors import ModelError
from edgebench.inference.batched import BatchPlanner
from edgebench.inference.fake import FakeRuntime
from edgebench.inference.runtime import cheapest_split, open_runtime
from edgebench.inference.spec import TensorSpec
from tests.cloud.trained import Session, tiny_session
from tests.manifests import manifest

MANIFEST = manifest(outputs=3, batches=(1, 8, 32))


@pytest.fixture(scope="module")
def session() -> Session:
    return tiny_session()


def test_the_cheapest_split_pads_where_that_is_faster() -> None:
    # A batch of 8 costs as much as 3 singles: from 4 samples on it pays, and 11 are 8 + 3 singles, 12 are 8 + 8.
    cost_s = {1: 1.0, 8: 3.0}
    assert cheapest_split(2, cost_s) == (1, 1)
    assert cheapest_split(4, cost_s) == (8,)
    assert cheapest_split(10, cost_s) == (8, 1, 1)
    assert cheapest_split(12, cost_s) == (8, 8)


def test_where_batches_bring_nothing_samples_go_one_by_one() -> None:
    assert cheapest_split(5, {1: 1.0, 8: 40.0}) == (1, 1, 1, 1, 1)


class _Summing:
    """Decides by the sum; notes the sizes of the batches it was asked for."""

    def __init__(self) -> None:
        self.asked: list[int] = []

    def __call__(self, batch: int, x: np.ndarray) -> np.ndarray:
        assert len(x) == batch
        self.asked.append(batch)
        return np.asarray(x.sum(axis=1, keepdims=True))


def test_padding_never_shows_in_the_outputs() -> None:
    planner = BatchPlanner(MANIFEST, _Summing())
    for n in (1, 2, 5, 8, 31, 32, 33, 77):
        x = np.arange(2 * n, dtype=np.float32).reshape(n, 2) + 1
        np.testing.assert_array_equal(planner.infer(x), x.sum(axis=1, keepdims=True))


def test_batch_sizes_that_are_not_wanted_are_never_run() -> None:
    run = _Summing()
    planner = BatchPlanner(MANIFEST, run)
    planner.infer(np.zeros((1, 2), np.float32))
    assert set(run.asked) == {1}
    planner.infer(np.zeros((8, 2), np.float32))
    assert set(run.asked) == {1, 8}
    planner.infer(np.zeros((9, 2), np.float32))
    assert set(run.asked) == {1, 8, 32}


def test_sizes_to_choose_from_are_timed_in_turns_so_that_a_disturbance_hinders_each_of_them() -> None:
    run = _Summing()
    BatchPlanner(MANIFEST, run).infer(np.zeros((32, 2), np.float32))
    assert run.asked[:12] == [1, 8, 32] * 4


def test_deciding_no_samples_is_refused() -> None:
    with pytest.raises(ValueError, match="no sample"):
        BatchPlanner(MANIFEST, _Summing()).infer(np.zeros((0, 2), np.float32))


def test_fake_decides_by_the_mean() -> None:
    outputs = FakeRuntime(outputs=3).infer(np.array([[0, 0], [-1, 3]], np.float32))
    # sigmoid(0), sigmoid(1), sigmoid(2); then sigmoid(1), sigmoid(2), sigmoid(3)
    expected = [[0.5, 0.731059, 0.880797], [0.731059, 0.880797, 0.952574]]
    np.testing.assert_allclose(outputs, expected, atol=1e-6)
    assert outputs.dtype == np.float32


def test_fake_takes_the_time_it_states() -> None:
    start_s = now_s()
    FakeRuntime(latency_s=0.02).infer(np.zeros((4, 2), np.float32))
    assert now_s() - start_s >= 0.02


def test_a_fake_model_is_a_json_file(tmp_path: Path) -> None:
    path = tmp_path / "model"
    path.write_text('{"latency_s": 0.0}')
    assert open_runtime(path, MANIFEST).infer(np.zeros((4, 2), np.float32)).shape == (4, 3)
    path.write_text('{"latency_ms": 5}')
    with pytest.raises(ModelError, match=r"model: not a fake model: .*latency_ms"):
        open_runtime(path, MANIFEST)


def test_an_unknown_runtime_is_an_error_that_lists_the_known_ones(tmp_path: Path) -> None:
    offered = r"no runtime 'tvm'; there are litert, keras, onnx, fake, or give module:attribute"
    with pytest.raises(ModelError, match=offered):
        open_runtime(tmp_path / "m", msgspec.structs.replace(MANIFEST, runtime="tvm"))


def test_a_runtime_of_ones_own_is_named_by_module_and_attribute(tmp_path: Path) -> None:
    path = tmp_path / "model"
    path.write_text("{}")
    own = msgspec.structs.replace(MANIFEST, runtime="edgebench.inference.fake:open_fake")
    assert isinstance(open_runtime(path, own), FakeRuntime)
    absent = msgspec.structs.replace(MANIFEST, runtime="no_such_package:Runtime")
    with pytest.raises(ModelError, match="no_such_package"):
        open_runtime(path, absent)


def test_the_runtimes_of_an_edge_bring_no_training_framework() -> None:
    code = (
        "import sys, edgebench.inference.runtime, edgebench.inference.litert, edgebench.inference.fake;"
        "print([m for m in ('tensorflow', 'keras', 'scipy', 'pandas') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_keras_decides_any_number_of_samples_and_goes_by_content_not_by_suffix(
    session: Session, tmp_path: Path
) -> None:
    file = session.file("light", "keras", "float32")
    stored = tmp_path / f"{file.manifest.digest}.model"
    stored.write_bytes(Path(file.path).read_bytes())
    runtime = open_runtime(stored, file.manifest)
    x = np.load(session.streams / "x.npy")
    all_at_once = runtime.infer(x)
    assert all_at_once.shape == (70, 1)
    assert all_at_once.dtype == np.float32
    for n in (1, 3, 8, 33):
        np.testing.assert_allclose(runtime.infer(x[:n]), all_at_once[:n], atol=1e-6)
    runtime.close()


def test_a_keras_file_with_code_in_it_is_refused(session: Session, tmp_path: Path) -> None:
    import keras

    model = keras.Sequential([keras.Input((8, 3)), keras.layers.Lambda(lambda x: x[:, 0, :1])])
    model.save(tmp_path / "code.keras")
    with pytest.raises(ModelError, match=r"code.keras: not a Keras model that loads safely"):
        open_runtime(tmp_path / "code.keras", session.file("light", "keras", "float32").manifest)


def test_a_file_that_is_no_keras_model_is_an_error_that_names_it(session: Session, tmp_path: Path) -> None:
    (tmp_path / "m.keras").write_bytes(b"nonsense")
    with pytest.raises(ModelError, match=r"m\.keras: not a Keras model"):
        open_runtime(tmp_path / "m.keras", session.file("light", "keras", "float32").manifest)


def test_a_keras_model_of_another_shape_than_its_manifest_says_is_refused(session: Session) -> None:
    file = session.file("light", "keras", "float32")
    wrong = msgspec.structs.replace(file.manifest, input=TensorSpec("float32", (8, 4)))
    with pytest.raises(ModelError, match=r"takes \(8, 3\) and gives 1 values, where its manifest says \(8, 4\) and 1"):
        open_runtime(Path(file.path), wrong)
