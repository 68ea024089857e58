"""Cells that are simulated side by side, in processes that end with the sweep, whatever ends that."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import psutil
import pytest

import edgebench
from edgebench.clock import now_s, sleep_s
from edgebench.errors import EdgebenchError
from edgebench.executors.disks import SmallDisk
from edgebench.experiments.sweep import sweep
from edgebench.experiments.sweep_child import CellJob
from edgebench.experiments.sweep_spec import read_spec
from edgebench.results.fronts import Swept
from edgebench.topology.shipped import shipped
from tests.simulation.wards import measured, ward

SPEC = """\
schema: 1
name: rates
topology: ward.yaml
executor: simulate
calibrate: [{run}]
grid: {{workloads.watch.load.rate_hz: [1, 2, 3, 4], nodes.bed.count: [{beds}]}}
seeds: [1, 2]
rank: {{figure: workloads.watch.latency_ms.p50}}
"""
CHILD = "edgebench.experiments.sweep_child"


def rates(folder: Path, beds: str = "1, 2", **changes: Any) -> Path:
    """Of a sweep of so many wards, at four rates with two seeds each."""
    ward(folder, **changes)
    spec = folder / "rates.yaml"
    spec.write_text(SPEC.format(run=measured(folder), beds=beds))
    return spec


def came_of(swept: Swept) -> object:
    """All but where the run directories are."""
    return [msgspec.structs.replace(cell, run=None) for cell in swept.cells], swept.leaderboard


def simulating(of: psutil.Process) -> list[psutil.Process]:
    """The processes below one that simulate cells."""
    found = []
    for each in of.children(recursive=True):
        with contextlib.suppress(psutil.Error):  # of what has ended since
            if CHILD in each.cmdline():
                found.append(each)
    return found


def goes_on(process: psutil.Process) -> bool:
    """Whether it does; one of which nobody has taken leave does not."""
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_what_comes_of_cells_is_the_same_by_any_number_of_processes(tmp_path: Path) -> None:
    spec, lines = rates(tmp_path), list[str]()
    alone = sweep(spec, tmp_path / "alone", processes=1)
    beside = sweep(spec, tmp_path / "beside", processes=3, tell=lines.append)
    assert came_of(beside) == came_of(alone)
    assert [cell.state for cell in beside.cells] == ["valid"] * 16
    assert [line.partition(" of ")[0] for line in lines] == [f"cell {number}" for number in range(1, 17)]
    assert all(" left: " in line for line in lines[3:])
    runs = tmp_path / "beside" / "rates" / "runs"
    assert len({cell.run for cell in beside.cells}) == len(list(runs.iterdir())) == 16
    assert simulating(psutil.Process()) == []


def test_a_process_that_dies_is_the_failure_of_its_cell_and_another_goes_on(tmp_path: Path) -> None:
    spec, killed = rates(tmp_path), list[int]()

    def kill_one(line: str) -> None:
        if line.startswith("cell 3 "):
            (child, *_) = simulating(psutil.Process())
            killed.append(child.pid)
            child.kill()

    swept = sweep(spec, tmp_path / "sweeps", processes=2, tell=kill_one)
    (failed,) = [cell for cell in swept.cells if cell.state != "valid"]
    assert (failed.state, failed.values, len(killed)) == ("failed", {}, 1)
    assert failed.problem.startswith("the process that simulated it ended before its work did: signal 9, SIGKILL (")
    again = edgebench.sweep(spec, out=tmp_path / "sweeps", resume=True, processes=2)
    assert {cell.state for cell in again.cells} == {"valid"}
    assert [cell for cell in again.cells if cell.key != failed.key] == [
        cell for cell in swept.cells if cell.key != failed.key
    ]


@pytest.mark.parametrize("processes", [1, 2])
def test_a_full_disk_ends_a_sweep_which_goes_on_once_there_is_room(
    tmp_path: Path, disk: SmallDisk, processes: int
) -> None:
    """It is that of the run directories alone, so that what came of cells could be kept."""
    spec, folder = rates(tmp_path), tmp_path / "sweeps" / "rates"
    folder.mkdir(parents=True)
    (folder / "runs").symlink_to(tmp_path / "disk")

    def fill(line: str) -> None:
        if line.startswith("cell 3 "):
            disk.fill()

    with pytest.raises(EdgebenchError) as raised:
        sweep(spec, folder.parent, processes=processes, tell=fill)
    said = str(raised.value)
    # Of two processes one may be at a file of which the system tells no name.
    assert said.startswith(f"{folder}: the disk at {tmp_path / 'disk' if processes == 1 else ''}")
    assert "is full" in said
    assert said.endswith("the cells that were run are kept; make room, and go on with --resume")
    kept = {file.name: file.read_bytes() for file in (folder / "cells").glob("*.json")}
    assert len(kept) < 16
    assert all(b'"valid"' in cell for cell in kept.values())
    disk.free()
    swept = sweep(spec, folder.parent, resume=True, processes=processes)
    assert {cell.state for cell in swept.cells} == {"valid"}


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGKILL, -signal.SIGKILL)])
def test_a_sweep_that_is_ended_leaves_no_process_and_goes_on_where_it_was(
    tmp_path: Path, number: signal.Signals, status: int
) -> None:
    # Long enough for the signal to come before all 32 are over, however busy the machine is.
    spec = rates(tmp_path, "50, 100, 150, 200", duration_s=60)
    cells = tmp_path / "sweeps" / "rates" / "cells"
    words = ["sweep", str(spec), "--out", str(tmp_path / "sweeps"), "--processes", "2"]
    command = subprocess.Popen([sys.executable, "-m", "edgebench.cli", *words], stderr=subprocess.DEVNULL)
    until_s = now_s() + 120
    while not list(cells.glob("*.json")) and now_s() < until_s:
        sleep_s(0.02)
    children = simulating(psutil.Process(command.pid))
    os.kill(command.pid, number)
    assert command.wait(60) == status
    assert len(children) == 2
    until_s = now_s() + 10
    while any(map(goes_on, children)) and now_s() < until_s:
        sleep_s(0.02)
    assert not any(map(goes_on, children))
    before = {file.name: file.stat().st_mtime_ns for file in cells.glob("*.json")}
    assert 0 < len(before) < 32
    swept = edgebench.sweep(spec, out=tmp_path / "sweeps", resume=True, processes=2)
    assert len({cell.run for cell in swept.cells}) == 32
    assert {name: (cells / name).stat().st_mtime_ns for name in before} == before


def test_a_topology_comes_to_a_process_as_it_was_read() -> None:
    for file in shipped().values():
        given = edgebench.load(file)
        job = CellJob("key", str(given.path), given.overrides, given.topology, {"seed": 1})
        assert msgspec.json.decode(msgspec.json.encode(job), type=CellJob).cell.given == given


def test_a_number_of_processes_that_cannot_be_is_refused(tmp_path: Path) -> None:
    spec = rates(tmp_path)
    with pytest.raises(EdgebenchError, match=r"^--processes 0: simulates nothing \(give 1 or more\)$"):
        edgebench.sweep(spec, out=tmp_path / "sweeps", processes=0)
    real = tmp_path / "real.yaml"
    real.write_text("\n".join(line for line in spec.read_text().splitlines() if line[:4] not in ("exec", "cali")))
    assert read_spec(real).executor == "local"
    with pytest.raises(EdgebenchError, match=r"real\.yaml are run one by one \(leave it out\)$"):
        edgebench.sweep(real, out=tmp_path / "sweeps", processes=2)
    assert not (tmp_path / "sweeps").exists()
