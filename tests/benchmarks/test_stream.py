from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.benchmarks.marks import check_marks

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.long  # each kind of load is run by tests/system/test_loads_live.py; this one runs its own side, too
@pytest.mark.timeout(300)
def test_the_stream_benchmark_prints_every_figure_that_its_docstring_names() -> None:
    done = subprocess.run(
        [sys.executable, "benchmarks/stream.py", "--quick", "--json", "--anyway"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout)
    check_marks(figures, watched=5)  # a pair for each QoS and each size of batch, and the agents
    assert figures["throughput_ratio"] == min(figures["throughput"][f"qos_{qos}"]["ratio"] for qos in (0, 1))
    assert figures["edge_overhead_ratio"] == max(figures["edge_overhead"][f"batch_{n}"]["ratio"] for n in (1, 32))
    assert figures["throughput_ratio"] > 0
    assert figures["edge_overhead"]["batch_1"]["bare_us"] > 0
    assert figures["agent_one_device_mb"] > 0
    assert figures["start_to_first_decision_s"] > 0
    many = figures["agent_1000_devices"]
    assert many["decided"] > 0
    assert many["lost"] == 0
    assert many["cores"] > 0
    assert many["slip_p99_ms"] > 0
