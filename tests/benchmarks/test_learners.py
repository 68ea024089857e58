from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.benchmarks.marks import MARKS, check_marks

ROOT = Path(__file__).resolve().parents[2]
RATIOS = {"step_vs_keras_ratio", "step_vs_torch_ratio", "rss_vs_keras_ratio", "rss_vs_torch_ratio"}


@pytest.mark.long
@pytest.mark.timeout(900)
def test_the_learners_benchmark_prints_every_figure_that_its_docstring_names() -> None:
    done = subprocess.run(
        [sys.executable, "benchmarks/learners.py", "--quick", "--json", "--anyway"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout)
    check_marks(figures, watched=2)
    assert set(figures) == {"lstm", "conv", "turns", "host"} | MARKS
    for network in ("lstm", "conv"):
        found = figures[network]
        assert set(found) == {"convert_s", "step_bytes", "litert", "keras", "torch"} | RATIOS
        for learner in ("litert", "keras", "torch"):
            assert set(found[learner]) == {"step_ms", "rss_mb", "pss_mb", "start_s"}
        ratio = found["litert"]["step_ms"] / found["keras"]["step_ms"]
        assert found["step_vs_keras_ratio"] == pytest.approx(ratio, abs=1e-3)
