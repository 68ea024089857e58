"""The script that runs a topology and reads its records as a table."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.conftest import ROOT
from tests.system.running import SMALL

SCRIPT = ROOT / "examples" / "api" / "slowest.py"


def ran(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(SCRIPT), *words],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )


def test_the_example_runs_a_topology_and_reads_its_records(tmp_path: Path) -> None:
    topology = tmp_path / "small.yaml"
    topology.write_text(SMALL)
    done = ran(str(topology), "--set", "duration_s=1", "--out", str(tmp_path / "runs"))
    assert done.returncode in (0, 1), done.stderr
    assert done.stderr == ""  # the API is quiet
    lines = [line for line in done.stdout.splitlines() if " ms, of which " in line]
    assert len(lines) == 5
    assert all(line.startswith("bed-") and " by ward-" in line for line in lines)
    latencies = [float(line.partition(": ")[2].partition(" ms")[0]) for line in lines]
    assert latencies == sorted(latencies, reverse=True)


def test_the_examples_mistakes_are_lines() -> None:
    done = ran("icu-wrad")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "icu-wrad: neither a file nor a topology that ships (did you mean 'icu-ward'?)\n"
