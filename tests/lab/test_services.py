"""What systemd is told, and what is said where there is none."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from edgebench.cli import main
from edgebench.errors import EXIT_TRY_AGAIN
from edgebench.experiments.labs import join_lab
from edgebench.lab import services
from edgebench.lab.messages import LabError
from tests.conftest import ROOT

ARGUMENTS = ["join", "https://192.0.2.1:46900"]


def unit(tmp_path: Path, *, of_system: bool = True) -> str:
    environment = {"EDGEBENCH_HOME": f"{tmp_path}/a home of 100%"}
    return services.unit_text("this machine's part", ARGUMENTS, environment, of_system=of_system)


def test_a_unit_starts_this_very_program_again_and_again_but_not_after_a_mistake(tmp_path: Path) -> None:
    lines = unit(tmp_path).splitlines()
    assert f"ExecStart={sys.executable} -m edgebench.cli join https://192.0.2.1:46900" in lines
    assert f'Environment="EDGEBENCH_HOME={tmp_path}/a home of 100%%"' in lines
    assert {"Restart=always", "RestartPreventExitStatus=2", "WantedBy=multi-user.target"} <= set(lines)
    assert "WantedBy=default.target" in unit(tmp_path, of_system=False)


def test_a_program_of_a_virtual_environment_is_started_by_its_own_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "v e" / "bin" / "edgebench"
    monkeypatch.setattr(sys, "argv", [str(program), "join"])
    assert f'ExecStart="{program}" join https://192.0.2.1:46900' in unit(tmp_path)


@pytest.mark.parametrize("of_system", [True, False])
def test_systemd_finds_nothing_wrong_with_a_unit(tmp_path: Path, of_system: bool) -> None:
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("no systemd-analyze here")
    file = tmp_path / "edgebench-join.service"
    file.write_text(unit(tmp_path, of_system=of_system))
    scope = "--system" if of_system else "--user"
    said = subprocess.run(
        [analyze, scope, "--man=no", "verify", str(file)],
        capture_output=True,
        text=True,
        env={"HOME": str(tmp_path), "XDG_RUNTIME_DIR": str(tmp_path)},
    )
    assert (said.returncode, said.stderr) == (0, "")


def test_without_systemd_it_is_refused_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(services, "_RUNNING", tmp_path / "absent")
    with pytest.raises(LabError, match=r"^--install: no systemd runs here \(leave it out"):
        services.check_systemd()


@pytest.fixture
def systemd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Programs that write down what they are asked; where they do."""
    said, programs = tmp_path / "said", tmp_path / "bin"
    programs.mkdir()
    for name in ("systemctl", "loginctl"):
        program = programs / name
        program.write_text(
            f'#!/bin/sh\necho "{name} $*" >> {said}\n[ "$1" != "fail" ] && [ "$2" != "broken.service" ]\n'
        )
        program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:/usr/bin:/bin")
    monkeypatch.setattr(services, "_RUNNING", programs)
    monkeypatch.setattr(services, "_SYSTEM_UNITS", tmp_path / "units")
    return said


def test_as_root_the_service_is_the_systems(systemd: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    (said,) = services.install("edgebench-join", "a part", ARGUMENTS)
    unit = tmp_path / "units" / "edgebench-join.service"
    assert said == f"{unit}: enabled and started (its log: journalctl -u edgebench-join)"
    assert f"-m edgebench.cli {' '.join(ARGUMENTS)}\n" in unit.read_text()
    calls = ["daemon-reload", "enable edgebench-join.service", "restart edgebench-join.service"]
    assert systemd.read_text().splitlines() == [f"systemctl {call}" for call in calls]


def test_else_it_is_the_users_and_stays_when_that_one_logs_out(
    systemd: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("LOGNAME", "alice")
    (said,) = services.install("edgebench-join", "a part", ARGUMENTS)
    unit = tmp_path / ".config" / "systemd" / "user" / "edgebench-join.service"
    assert said == f"{unit}: enabled and started (its log: journalctl --user -u edgebench-join)"
    assert "WantedBy=default.target\n" in unit.read_text()
    assert systemd.read_text().splitlines()[-2:] == [
        "systemctl --user restart edgebench-join.service",
        "loginctl enable-linger alice",
    ]


def test_a_service_finds_the_modules_that_its_installer_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "meters").mkdir()
    (tmp_path / "meters" / "plug_at_home.py").write_text("")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", f"meters::{ROOT}")
    assert services.environment()["PYTHONPATH"] == f"{tmp_path}/meters:{ROOT}"
    services.check_there("import plug_at_home")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    with pytest.raises(LabError, match=r"^--install: ModuleNotFoundError: No module named 'plug_at_home'$"):
        services.check_there("import plug_at_home")


def test_a_meter_that_the_service_does_not_find_is_told_before_anything_is_done(systemd: Path, tmp_path: Path) -> None:
    with pytest.raises(LabError, match=r"^--install: --meter no_plug:Plug: ModuleNotFoundError: "):
        join_lab("https://192.0.2.1:46900", "a token", None, meter="no_plug:Plug", install=True, tell=print)
    assert not systemd.exists()


def test_what_systemd_refuses_is_one_line(systemd: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    with pytest.raises(LabError, match=r"^--install: systemctl enable broken\.service: status 1$"):
        services.install("broken", "a part", ARGUMENTS)


@pytest.mark.parametrize(
    ("meter", "status"), [("silent_plug:Plug", EXIT_TRY_AGAIN), ("silent_plug:Socket", 2), ("no_plug:Plug", 2)]
)
def test_a_meter_that_does_not_answer_yet_is_tried_again_and_one_that_is_not_there_is_not(
    meter: str, status: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "silent_plug.py").write_text("def Plug():\n    raise ConnectionRefusedError(111, 'silent')\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert main(["join", "https://192.0.2.1:46900", "--token", "a token", "--meter", meter]) == status
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"--meter {meter}: ")
