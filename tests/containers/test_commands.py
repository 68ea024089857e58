"""Whether the command that has made something is gone."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from edgebench.containers.commands import is_over, own_mark
from edgebench.fabric.child_process import birth_of
from tests.conftest import ROOT
from tests.lab_kit.needs import SYSTEM_PATH, need_root_and

MARK = "from edgebench.containers.commands import own_mark; print(own_mark())"
IS_OVER = "import sys; from edgebench.containers.commands import is_over; print([*map(is_over, sys.argv[1:])])"
ENVIRONMENT = {**os.environ, "PATH": SYSTEM_PATH, "PYTHONPATH": str(ROOT)}


def of_a_command_that_is_over() -> str:
    return subprocess.run([sys.executable, "-c", MARK], capture_output=True, text=True, check=True).stdout.strip()


def test_a_command_is_over_when_its_process_is_gone_or_its_number_is_anothers() -> None:
    of_another = of_a_command_that_is_over()
    computer, boot, namespace, _, birth = of_another.split(":")
    assert not is_over(own_mark())
    assert is_over(of_another)
    assert is_over(f"{computer}:{boot}:{namespace}:{os.getpid()}:{birth}0")


def test_what_was_before_a_restart_of_the_computer_is_over() -> None:
    computer, _, namespace, pid, birth = own_mark().split(":")
    assert is_over(f"{computer}:another-boot:{namespace}:{pid}:{birth}")


def test_a_command_that_cannot_be_seen_from_here_is_taken_to_go_on() -> None:
    computer, boot, namespace, _, birth = own_mark().split(":")
    assert not is_over(f"{computer}:{boot}:{int(namespace) + 1}:999999999:{birth}")
    assert not is_over(f"{computer}:{boot}:{namespace}:no number:{birth}")
    assert not is_over("of another version")


def test_what_another_computer_has_made_in_the_same_engine_is_taken_to_go_on() -> None:
    _, boot, namespace, pid, birth = own_mark().split(":")
    assert not is_over(f"another-computer:another-boot:{namespace}:{pid}:{birth}")
    assert not is_over(f"another-computer:{boot}:{namespace}:{pid}:{birth}0")


def test_a_label_does_not_tell_which_computer_has_made_it() -> None:
    computer = own_mark().partition(":")[0]
    file = Path("/etc/machine-id")
    assert not file.exists() or computer not in file.read_text()


def test_where_the_processes_of_others_are_hidden_they_are_taken_to_go_on() -> None:
    need_root_and("unshare", "mount", "setpriv")
    place = own_mark().rsplit(":", 2)[0]
    of_nobody = subprocess.Popen(["setpriv", "--reuid", "65534", "--clear-groups", "sleep", "60"], env=ENVIRONMENT)
    try:
        marks = (f"{place}:{of_nobody.pid}:{birth_of(of_nobody.pid)}", of_a_command_that_is_over())
        # Root without these rights, and not in the group that sees all, is another user to nobody.
        drop = "--regid 65534 --clear-groups --bounding-set -sys_ptrace,-kill"
        hidden = f'mount -t proc -o hidepid=2 proc /proc && exec setpriv {drop} "$@"'
        asked = ("unshare", "--mount", "sh", "-c", hidden, "sh", sys.executable, "-c", IS_OVER, *marks)
        said = subprocess.run(asked, capture_output=True, text=True, env=ENVIRONMENT)
        assert (said.stdout, said.stderr) == ("[False, True]\n", "")
    finally:
        of_nobody.kill()
        of_nobody.wait()
