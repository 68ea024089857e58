from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from tests.benchmarks.marks import MARKS, check_marks

ROOT = Path(__file__).resolve().parents[2]


def test_the_links_benchmark_prints_every_figure_that_its_docstring_names() -> None:
    done = subprocess.run(
        [sys.executable, "benchmarks/links.py", "--quick", "--json", "--anyway"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout)
    check_marks(figures, watched=1)
    assert set(figures) == {"delay_20_ms_error_ms", "rate_20_mbit_s_error_percent", "links", "rounds", "host"} | MARKS
    promised = figures["links"]["20 ms, 20 Mbit/s"]
    assert promised["requested"]["mbit_s"] == {"up": 20.0, "down": 20.0}
    measured = promised["measured"]["latency_ms"]
    errors = [measured[way] - 20.0 for way in ("up", "down")]
    assert min(errors) >= 0
    assert abs(figures["delay_20_ms_error_ms"] - max(errors)) < 0.002
    assert figures["links"]["1 ms, unlimited"]["rate_error_percent"] is None
