"""scripts/environment.sh, with a Python that only notes what it is asked to install."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from edgebench.clock import sleep_s

ROOT = Path(__file__).parents[1]
PYTHON = """#!/bin/sh
case "$*" in
"-m venv "*)
    mkdir -p "$3/bin" && cp "$0" "$3/bin/python" && echo venv >>"{root}/asked"
    if [ -e "{root}/full" ]; then exit 1; fi
    ;;
"-m pip "*)
    echo pip >>"{root}/asked"
    if [ -e "{root}/slow" ]; then exec sleep 60; fi
    ;;
*) exec "{real}" "$@" ;;
esac
"""
SCRIPT = """#!/bin/sh
set -eu
. "$(dirname "$0")/environment.sh"
ensure_environment lab
"""


class Clone:
    """A folder with the script, and what it has had installed."""

    def __init__(self, root: Path) -> None:
        self.root = root
        (root / "scripts").mkdir()
        (root / "bin").mkdir()
        shutil.copy(ROOT / "scripts" / "environment.sh", root / "scripts")
        (root / "pyproject.toml").write_text("")
        for place, text in (("scripts/go", SCRIPT), ("bin/python3", PYTHON.format(root=root, real=sys.executable))):
            (root / place).write_text(text)
            (root / place).chmod(0o755)

    def start(self) -> subprocess.Popen[str]:
        environment = {**os.environ, "PATH": f"{self.root / 'bin'}:{os.environ['PATH']}"}
        return subprocess.Popen(
            [self.root / "scripts" / "go"], env=environment, stderr=subprocess.PIPE, text=True, start_new_session=True
        )

    def run(self) -> int:
        with self.start() as process:
            process.communicate()
        return process.returncode

    def asked(self) -> list[str]:
        file = self.root / "asked"
        return file.read_text().split() if file.exists() else []


@pytest.fixture
def clone(tmp_path: Path) -> Clone:
    return Clone(tmp_path)


def test_what_is_installed_is_not_installed_again(clone: Clone) -> None:
    assert [clone.run(), clone.run()] == [0, 0]
    assert clone.asked() == ["venv", "pip"]


def test_an_installation_that_ctrl_c_has_interrupted_is_begun_anew(clone: Clone) -> None:
    (clone.root / "slow").touch()
    with clone.start() as interrupted:
        while "pip" not in clone.asked():
            sleep_s(0.02)
        os.killpg(interrupted.pid, signal.SIGINT)
        _, said = interrupted.communicate()
    assert interrupted.returncode == 130
    assert said.splitlines()[-1].startswith("edgebench: interrupted; the next command makes .venv anew")
    (clone.root / "slow").unlink()
    assert clone.run() == 0
    assert clone.asked() == ["venv", "pip", "venv", "pip"]


def test_an_environment_that_could_not_be_made_whole_is_made_anew(clone: Clone) -> None:
    (clone.root / "full").touch()
    assert clone.run() == 2
    (clone.root / "full").unlink()
    assert clone.run() == 0
    assert clone.asked() == ["venv", "venv", "pip"]
