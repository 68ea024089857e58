"""The example tasks of one's own run as their first lines say, in the number of lines that is promised."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT
from tests.system.running import faults_of

pytestmark = pytest.mark.timeout(700)

EXAMPLES = ROOT / "examples"


def ran(example: str, out: Path, *folders: str) -> dict[str, Any]:
    """result.json of an example's topology, run from its folders."""
    topology = str(EXAMPLES / example / "topology.yaml")
    words = ["run", topology, "--out", str(out), "--duration-s", "4", "--json"]
    done = subprocess.run(
        [sys.executable, "-m", "edgebench.cli", *words],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *(str(EXAMPLES / each) for each in folders)])},
        capture_output=True,
        text=True,
    )
    assert done.stdout, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize(
    ("example", "folders", "runtime"),
    [
        ("own-task", ("own-task",), "litert"),
        ("own-task-torch", ("own-task", "own-task-torch"), "onnx"),
    ],
)
def test_a_task_of_ones_own_is_trained_streamed_and_decided(
    example: str, folders: tuple[str, ...], runtime: str, tmp_path: Path
) -> None:
    result = ran(example, tmp_path, *folders)
    assert faults_of(result) == []
    wear = result["workloads"]["wear"]
    assert (wear["scheduled"], wear["decided"]) == (80, 80)
    (model,) = wear["models"]
    assert model["runtime"] == runtime
    assert model["validated"]["value"] > 0.75


def test_it_takes_fewer_than_sixty_lines() -> None:
    for example in ("own-task/bearing.py", "own-task-torch/bearing_torch.py"):
        assert len((EXAMPLES / example).read_text().splitlines()) < 60
