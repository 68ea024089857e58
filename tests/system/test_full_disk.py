"""The disk of the run directory fills up in mid-run."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgebench.results.rundir import read_result
from tests.system.running import RUN_PATIENCE_S, SMALL, command, run_dir_of

pytestmark = pytest.mark.long  # tests/experiments/test_finishing.py has its parts


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A small one of its own."""
    place = tmp_path / "disk"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(place)], check=True)
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)


def test_it_is_named_and_with_room_again_the_run_is_finished(disk: Path, tmp_path: Path) -> None:
    topology = tmp_path / "topology.yaml"
    # The stream of this task has room there; what is recorded of it has not.
    small = SMALL.replace("icu-death", "occupancy")
    topology.write_text(small.replace("rate_hz: 10", "rate_hz: 200").replace("duration_s: 4", "duration_s: 20"))
    began = subprocess.run(
        command(topology, disk, "--registry", str(tmp_path / "registry")),
        capture_output=True,
        text=True,
        timeout=RUN_PATIENCE_S,
    )
    run_dir = run_dir_of(disk)
    assert began.returncode == 2
    last = began.stderr.splitlines()[-1]
    assert last.startswith(f"{run_dir}: the disk at {disk} is full")
    assert last.endswith(f"what was recorded is kept; make room, then edgebench report {run_dir}")
    assert "Traceback" not in began.stderr
    subprocess.run(["mount", "-o", "remount,size=64m", str(disk)], check=True)
    report = [sys.executable, "-m", "edgebench.cli", "report", str(run_dir)]
    finished = subprocess.run(report, capture_output=True, text=True, timeout=RUN_PATIENCE_S)
    assert finished.returncode == 1, finished.stderr
    result = read_result(run_dir)
    assert not result.verdict.valid
    assert result.workloads["watch"].decided > 0
