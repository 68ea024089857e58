from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.long
@pytest.mark.timeout(900)
def test_the_quality_benchmark_prints_every_figure_that_its_docstring_names() -> None:
    done = subprocess.run(
        [sys.executable, "benchmarks/federated_quality.py", "--quick", "--json"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout)
    compared = {"start_auroc", "federated_auroc", "central_auroc", "local_auroc"}
    told = {"federated_below_central", "federated_above_local", "rounds_auroc", "local_rounds_auroc"}
    assert set(figures) == compared | told | {"clients", "refused", "settings", "data"}
    assert len(figures["rounds_auroc"]) == len(figures["local_rounds_auroc"]) == figures["settings"]["rounds"] == 2
    assert figures["rounds_auroc"][-1] == figures["federated_auroc"]["mean"]
    assert sum(client["rows"] for client in figures["clients"]) == figures["data"]["train"] == 3_000
    assert figures["federated_auroc"]["mean"] > figures["start_auroc"]["mean"]


def test_the_quality_benchmark_wants_real_data() -> None:
    done = subprocess.run([sys.executable, "benchmarks/federated_quality.py"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2
    assert "--data" in done.stderr
