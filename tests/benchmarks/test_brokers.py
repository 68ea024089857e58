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
def test_the_broker_benchmark_prints_what_a_kind_costs(mosquitto: Path) -> None:
    done = subprocess.run(
        [sys.executable, "benchmarks/brokers.py", "--quick", "--json", "--anyway", "--broker", "mosquitto"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout)
    check_marks(figures, watched=1)
    assert figures["qos"] == 1
    costs = figures["mosquitto"]
    assert costs["version"]
    assert costs["broker_cores"] >= 0  # so little is done that it may be less than a tick
    assert costs["broker_mb"] > 0
    assert costs["latency_p50_ms"] > 0
    assert costs["lost"] == 0
