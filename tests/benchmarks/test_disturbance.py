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
@pytest.mark.parametrize(
    ("name", "loops"),
    # Linux shares the processor among sessions first: 24 of them leave other tests, of one session, next to nothing.
    [("idle_nice", 4), pytest.param("disturbed", 24, marks=pytest.mark.long)],
)
def test_a_run_beside_busy_loops_is_told_of_and_the_loops_are_ended(name: str, loops: int) -> None:
    command = [sys.executable, "benchmarks/disturbance.py", "--quick", "--json", "--only", name]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout)
    assert set(figures) == {name, "duration_s", "loops", "host"}
    assert figures["loops"] == {name: loops}
    run = figures[name]
    assert set(run) == RUN | LATE | HOST
    if name == "disturbed":
        assert run["load_from_s"] >= 2.0
    else:
        assert run["load_from_s"] is None
    assert run["foreign"] > 0.1  # the loops, whatever else there is
    assert run["most_late_ms"] >= run["mean_late_ms"] > 0
    assert all(set(each) == {"all", "undisturbed"} for each in run["workloads"].values())
    busy = [each.pid for each in psutil.process_iter(["cmdline"]) if "# beside a run" in str(each.info["cmdline"])]
    assert busy == []
