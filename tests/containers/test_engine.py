"""Which engine is taken, and what is said where there is none."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgebench.cli import main
from tests.topology.sound import SOUND


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/socket")
    (tmp_path / "small.yaml").write_text(SOUND)
    return str(tmp_path / "small.yaml")


def test_where_no_engine_answers_a_line_says_how_to_start_one(
    file: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = (
        f"no container engine answers (unix://{tmp_path}/socket: nothing listens there): start one"
        " (sudo systemctl start docker, or sudo systemctl start podman.socket; DOCKER_HOST names another)\n"
    )
    assert main(["run", file, "--executor", "containers", "--out", str(tmp_path / "runs")]) == 2
    assert capsys.readouterr().err == said
    assert main(["clean"]) == 2
    assert capsys.readouterr().err == said
    assert not list((tmp_path / "runs").glob("*-small"))


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (["--base-image", "debian"], "--base-image: is for containers (leave it out, or add --executor containers)"),
        (["--executor", "containers", "--wait"], "--wait: each run has containers of its own (leave it out)"),
    ],
)
def test_options_without_a_use_are_refused(
    options: list[str], problem: str, file: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", file, "--out", str(tmp_path / "runs"), *options]) == 2
    assert capsys.readouterr().err == f"{problem}\n"
