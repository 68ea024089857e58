"""What systemd is told, and what is said where there is none."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from edgebench.lab import services
from edgebench.lab.messages import LabError

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
