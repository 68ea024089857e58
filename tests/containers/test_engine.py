"""Which engine is taken, and what is said where there is none."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgebench.cli import main
from edgebench.containers.engine import repository_and_tag
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
    ("image", "repository", "tag"),
    [
        ("debian", "debian", "latest"),
        ("python:3.11-slim", "python", "3.11-slim"),
        ("lab.example:5000/python", "lab.example:5000/python", "latest"),
        ("lab.example:5000/python:3", "lab.example:5000/python", "3"),
        ("python@sha256:0a1b", "python", "sha256:0a1b"),
        ("lab.example:5000/python:3@sha256:0a1b", "lab.example:5000/python", "sha256:0a1b"),
    ],
)
def test_the_name_of_an_image_is_read_with_its_tag_or_digest(image: str, repository: str, tag: str) -> None:
    assert repository_and_tag(image) == (repository, tag)


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
