"""A torch module as ONNX: the same outputs, for any number of samples."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch

from cloud.onnx_export import write_onnx
from edgebench.errors import ModelError
from edgebench.inference.onnx_runtime import OnnxRuntime
from edgebench.inference.runtime import open_runtime
from edgebench.inference.spec import TensorSpec
from edgebench.seeds import rng_for, seed_everything
from tests.manifests import manifest

SPEC = TensorSpec("float32", (6, 2))

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")


class Net(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inside = torch.nn.LSTM(2, 4, batch_first=True)
        self.end = torch.nn.Linear(4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.softmax(self.end(self.inside(x)[0][:, -1]), dim=-1)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[torch.nn.Module, Path, int]:
    seed_everything(1, "net")
    module, path = Net(), tmp_path_factory.mktemp("onnx") / "net.onnx"
    return module, path, write_onnx(module, SPEC, path)


ABOUT = msgspec.structs.replace(manifest(), runtime="onnx", input=SPEC, outputs=3)


def test_it_decides_like_the_module_whatever_the_number_of_samples(written: tuple[torch.nn.Module, Path, int]) -> None:
    module, path, outputs = written
    assert outputs == 3
    runtime = open_runtime(path, ABOUT, warm_for=4)
    x = rng_for(1, "samples").normal(size=(37, 6, 2)).astype(np.float32)
    with torch.no_grad():
        expected = module(torch.from_numpy(x)).numpy()
    for n in (1, 2, 37):
        found = runtime.infer(x[:n])
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, expected[:n], atol=1e-6)
    runtime.close()


def test_a_file_for_other_samples_is_refused(written: tuple[torch.nn.Module, Path, int]) -> None:
    other = msgspec.structs.replace(ABOUT, input=TensorSpec("float32", (5, 2)))
    with pytest.raises(ModelError, match="where its manifest says"):
        OnnxRuntime(written[1], other)


def test_what_is_no_onnx_is_refused_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    path.write_bytes(b"not a model")
    with pytest.raises(ModelError, match="not an ONNX model that runs here") as caught:
        OnnxRuntime(path, ABOUT)
    assert "\n" not in str(caught.value)
