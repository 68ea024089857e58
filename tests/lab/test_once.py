"""A machine that is there for one run: its token comes by a file, and it ends when that is over."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgebench.fabric.tls import write_private
from tests.lab.labs import Lab, command, eventually


@pytest.fixture
def board(lab: Lab, tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    process = command(
        tmp_path / "board", "join", lab.url, "--name", "pi", "--token-file", str(tmp_path / "token"), "--once"
    )
    yield process
    if process.poll() is None:
        process.terminate()
        process.communicate(timeout=30)


def lay(tmp_path: Path, token: str) -> None:
    write_private(tmp_path / "token", token.encode())


def is_there(lab: Lab) -> bool:
    return any(each.present for each in lab.client.machines())


def test_it_waits_for_its_token_and_ends_with_the_run(lab: Lab, board: subprocess.Popen[str], tmp_path: Path) -> None:
    lay(tmp_path, lab.token())
    eventually(lambda: is_there(lab), 30.0)
    lab.client.hold("r", ["pi"], "a test")
    lab.client.release("r")
    _, said = board.communicate(timeout=30)
    assert board.returncode == 0, said
    eventually(lambda: lab.info("pi").holder is None)


def test_a_token_of_an_earlier_lab_does_no_harm(lab: Lab, board: subprocess.Popen[str], tmp_path: Path) -> None:
    used = lab.token()
    with lab.at(tmp_path / "another"):
        from edgebench.lab import joining

        joining.join(lab.url, used, "another")
    lay(tmp_path, used)
    assert board.stderr is not None
    assert "waiting for another token" in board.stderr.readline()
    lay(tmp_path, lab.token())
    eventually(lambda: is_there(lab), 30.0)


def test_it_is_not_for_systemd(lab: Lab, tmp_path: Path) -> None:
    process = command(tmp_path / "board", "join", lab.url, "--token", lab.token(), "--once", "--install")
    _, said = process.communicate(timeout=30)
    assert process.returncode == 2
    assert said == "--once: what systemd starts would end, and begin again (leave out one of the two)\n"
