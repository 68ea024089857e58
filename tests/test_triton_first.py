"""torch beside TensorFlow in one process, whichever wheel of torch is installed here."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT

LEARN = "import edgebench, tensorflow, torch; torch.optim.SGD([torch.nn.Parameter(torch.zeros(2))], lr=0.1)"


def in_a_process(code: str, *path: Path) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (*path, ROOT)))}
    return subprocess.run([sys.executable, "-c", code], cwd="/", env=env, capture_output=True, text=True)


@pytest.mark.timeout(120)
def test_an_optimiser_of_torch_is_made_after_tensorflow() -> None:
    done = in_a_process(LEARN)
    assert done.returncode == 0, done.stderr


def test_triton_is_loaded_before_tensorflow_and_by_nobody_who_only_asks_for_that(tmp_path: Path) -> None:
    """Packages that say when they are imported, since not every torch has Triton with it."""
    for name in ("triton/__init__", "triton/_C/__init__", "triton/_C/libtriton", "tensorflow/python/__init__"):
        file = tmp_path / f"{name}.py"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("print(__name__)\n")
    (tmp_path / "tensorflow" / "__init__.py").write_text("import tensorflow.python\n")
    asked = "import edgebench, importlib.util as u; assert u.find_spec('tensorflow'); print('asked'); "
    done = in_a_process(asked + "import tensorflow; from tensorflow import python", tmp_path)
    assert done.stdout.split() == ["asked", "triton", "triton._C", "triton._C.libtriton", "tensorflow.python"], done
