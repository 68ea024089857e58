"""A full disk is named, and what was recorded before is not lost."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path
from threading import Event, Thread

import pytest

import edgebench
from edgebench.errors import EdgebenchError
from edgebench.executors.here import PROCESSES
from edgebench.experiments import finishing
from edgebench.experiments.finishing import finish_held, held
from edgebench.experiments.places import NoRoomError, room_in
from edgebench.experiments.reaper import close_run
from edgebench.fabric.child_process import birth_of
from edgebench.fabric.records import Began, Opened, SampleRows
from edgebench.fabric.spool import Spool
from edgebench.results.collect import COMMAND_SPOOL, UPLOADS, WORK
from edgebench.results.rundir import write_deployment
from tests.results import factory


def test_a_full_disk_is_named_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(NoRoomError) as caught, room_in(tmp_path, "make room"):
        Path("/dev/full").write_text("x")
    said = str(caught.value)
    assert said.startswith(f"{tmp_path}: the disk at /")
    assert said.endswith("MB left): make room")


def test_other_failures_are_none_of_a_full_disk(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), room_in(tmp_path, "make room"):
        (tmp_path / "absent").read_bytes()


def cut_off(tmp_path: Path) -> None:
    """A run whose command is gone."""
    write_deployment(tmp_path, factory.deployment())
    (tmp_path / UPLOADS).mkdir()
    for name, entries in (
        (COMMAND_SPOOL, (Opened(0, {}), Began(0, 10**9))),
        (f"{UPLOADS}/bed-0.spool", (SampleRows([factory.row(0, 0)]),)),
    ):
        spool = Spool(tmp_path / name)
        spool.write(*entries)
        spool.close()


def test_a_run_that_was_cut_off_is_finished_by_its_report(tmp_path: Path) -> None:
    cut_off(tmp_path)
    with held(tmp_path), pytest.raises(EdgebenchError, match="the run goes on"):
        edgebench.load_run(tmp_path, rebuild=True)
    run = edgebench.load_run(tmp_path, rebuild=True)
    assert run.figures.workloads["death-risk"].decided == 1
    assert "the command edgebench ended before it had collected what was recorded" in str(run.verdict.reasons)
    assert not (tmp_path / COMMAND_SPOOL).exists()


def test_a_report_takes_nothing_from_under_nodes_that_still_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cut_off(tmp_path)
    (tmp_path / WORK).mkdir()
    is_held = Event()

    @contextlib.contextmanager
    def tells(run_dir: Path) -> Iterator[None]:
        with held(run_dir):
            is_held.set()
            yield

    with subprocess.Popen(["sleep", "60"], start_new_session=True) as node:
        (tmp_path / WORK / PROCESSES).write_text(f"{node.pid} {birth_of(node.pid)}\n")
        monkeypatch.setattr(finishing, "held", tells)
        reaper = Thread(target=close_run, args=(tmp_path,))
        reaper.start()
        assert is_held.wait(10.0)
        with pytest.raises(EdgebenchError, match="the run goes on"):
            edgebench.load_run(tmp_path, rebuild=True)
        node.kill()
        reaper.join()
    reasons = edgebench.load_run(tmp_path).verdict.reasons
    assert "the command edgebench itself was killed" in str(reasons)


def test_what_another_has_collected_is_not_collected_again(tmp_path: Path) -> None:
    cut_off(tmp_path)
    with held(tmp_path):
        finish_held(tmp_path, "it was killed")
        records = (tmp_path / "records.parquet").read_bytes()
        finish_held(tmp_path, "it was killed")
    assert (tmp_path / "records.parquet").read_bytes() == records
    with pytest.raises(EdgebenchError, match="collected already"), held(tmp_path):
        pass
    assert not (tmp_path / COMMAND_SPOOL).exists()
