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
APT_GET = """#!/bin/sh
echo apt >>"{root}/asked"
if [ -e "{root}/slow-apt" ]; then exec sleep 60; fi
"""
PROGRAMS = SCRIPT + "ensure_programs no-such-program no-such-package || echo 'without it' >&2\n"


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

    def want_programs(self) -> None:
        """As root of a Debian whose apt-get only notes that it is asked."""
        root = self.root
        for place, text in (
            ("bin/apt-get", APT_GET.format(root=root)),
            ("bin/id", "#!/bin/sh\necho 0\n"),
            ("scripts/go", PROGRAMS),
        ):
            (root / place).write_text(text)
            (root / place).chmod(0o755)
        (root / "debian_version").touch()
        script = root / "scripts" / "environment.sh"
        changed = script.read_text().replace("/usr/sbin/policy-rc.d", f"{root}/policy-rc.d")
        script.write_text(changed.replace("/etc/debian_version", f"{root}/debian_version"))

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
            assert interrupted.poll() is None
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


def test_programs_are_tried_once_for_an_environment(clone: Clone) -> None:
    clone.want_programs()
    assert [clone.run(), clone.run()] == [0, 0]
    assert clone.asked() == ["venv", "pip", "apt"]
    assert not (clone.root / "policy-rc.d").exists()


def test_programs_that_ctrl_c_has_kept_from_being_installed_are_tried_again(clone: Clone) -> None:
    clone.want_programs()
    (clone.root / "slow-apt").touch()
    with clone.start() as interrupted:
        while "apt" not in clone.asked():
            assert interrupted.poll() is None
            sleep_s(0.02)
        os.killpg(interrupted.pid, signal.SIGINT)
        _, said = interrupted.communicate()
    assert interrupted.returncode == 130
    assert said.splitlines()[-1] == "edgebench: interrupted; the next command tries to install no-such-package again"
    assert not (clone.root / "policy-rc.d").exists()
    (clone.root / "slow-apt").unlink()
    assert clone.run() == 0
    assert clone.asked() == ["venv", "pip", "apt", "apt"]
