"""A machine that a lab has measured: what it is sent is kept, and what comes of it told."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgebench.clock import now_s, sleep_s
from edgebench.executors.measured_machine import MeasuredMachine
from edgebench.executors.orders import Failed, KeepPiece, MeasureMachine, Report


def test_models_come_in_pieces_and_none_leaves_the_folder(tmp_path: Path) -> None:
    told: list[Report] = []
    machine = MeasuredMachine(tmp_path / "run", told.append, lambda _name, _path: None)
    for piece in (b"ab", b"", b"c"):
        machine.obey(KeepPiece("icu-death/light-float32.model", piece))
    assert (tmp_path / "run/models/icu-death/light-float32.model").read_bytes() == b"abc"
    for name in ("../elsewhere", "/etc/elsewhere", "a/../../../elsewhere"):
        machine.obey(KeepPiece(name, b"x"))
    assert [type(each) for each in told] == [Failed] * 3
    assert not (tmp_path / "elsewhere").exists()
    machine.close()


def test_a_measurement_that_cannot_be_is_told_of_by_its_last_line(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    told: list[Report] = []
    machine = MeasuredMachine(tmp_path / "run", told.append, lambda _name, _path: pytest.fail("there is no profile"))
    machine.obey(MeasureMachine(("--task", "no-task")))
    until_s = now_s() + 30.0
    while not any(isinstance(each, Failed) for each in told):
        assert now_s() < until_s
        sleep_s(0.05)
        machine.look()
    (failed,) = (each for each in told if isinstance(each, Failed))
    assert "no task 'no-task'" in failed.reason
    machine.close()
