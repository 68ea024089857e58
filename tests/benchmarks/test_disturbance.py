from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

ROOT = Path(__file__).resolve().parents[2]
RUN = {"valid", "reasons", "notes", "kinds", "disturbed_share", "spans", "workloads", "load_from_s"}
LATE = {"mean_late_ms", "most_late_ms", "most_hiccup_ms"}
HOST = {"busy", "full", "foreign", "stolen", "pressure"}


@pytest.mark.timeout(300)
def test_a_run_beside_busy_loops_is_told_of_and_the_loops_are_ended() -> None:
    command = [sys.executable, "benchmarks/disturbance.py", "--quick", "--json", "--only", "disturbed"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout)
    assert set(figures) == {"disturbed", "duration_s", "loops", "host"}
    assert figures["loops"] == {"disturbed": 24}
    run = figures["disturbed"]
    assert set(run) == RUN | LATE | HOST
    assert run["load_from_s"] >= 2.0
    assert run["foreign"] > 0.1  # the loops, whatever else there is
    assert run["most_late_ms"] >= run["mean_late_ms"] > 0
    assert all(set(each) == {"all", "undisturbed"} for each in run["workloads"].values())
    busy = [each.pid for each in psutil.process_iter(["cmdline"]) if "# beside a run" in str(each.info["cmdline"])]
    assert busy == []
