from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.benchmarks.marks import check_marks

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.long
@pytest.mark.timeout(300)
def test_the_lab_benchmark_prints_what_machines_cost_their_server() -> None:
    done = subprocess.run(
        [sys.executable, "benchmarks/lab.py", "--quick", "--json", "--anyway"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout)
    check_marks(figures, watched=1)
    (step,) = figures["joined"]
    assert step["machines"] == 2
    assert step["server_mb"] > 10
    assert step["machine_mb"] > 10
    assert step["clock_bound_us"] > 0
    assert step["list_ms"] > 0
