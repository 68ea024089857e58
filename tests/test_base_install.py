"""What runs on a board loads nothing that only the lab's packages bring."""

from __future__ import annotations

import subprocess
import sys

import pytest

from edgebench.cli import _LAB_PACKAGES

PROGRAMS = (
    *("device_agent.__main__", "edge_node.__main__", "edgebench.cli", "edgebench.executors.here"),
    "edgebench.experiments.labs",
)
ONLY_64_BITS = ("ai_edge_litert", "nats_server", "tflite_runtime", "torch")

IMPORTS = """
import importlib, sys
module, *absent = sys.argv[1:]
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in absent:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Absent())
importlib.import_module(module)
"""


@pytest.mark.parametrize("module", PROGRAMS)
def test_a_program_of_a_board_starts_with_the_base_install(module: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", IMPORTS, module, *_LAB_PACKAGES, *ONLY_64_BITS], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
