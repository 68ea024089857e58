from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.benchmarks.marks import MARKS, check_marks

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.timeout(300)
def test_the_inference_benchmark_prints_every_figure_that_its_docstring_names() -> None:
    command = [sys.executable, "benchmarks/inference.py", "occupancy", "--quick", "--json", "--anyway"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout)
    check_marks(figures, watched=2)
    assert set(figures) == {"tasks", "worst", "rounds", "calls"} | MARKS
    assert set(figures["tasks"]) == {"occupancy"}
    by_batch = figures["tasks"]["occupancy"]
    assert set(by_batch) == {"batch_1", "batch_32"}
    for found in by_batch.values():
        assert found["edge_us"] > 0
        assert found["ratio"] == pytest.approx(found["edge_us"] / found["bare_us"], rel=0.02)
    assert figures["worst"] == max(found["ratio"] for found in by_batch.values())
