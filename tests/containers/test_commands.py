"""Whether the command that has made something is gone."""

from __future__ import annotations

import os
import subprocess
import sys

from edgebench.containers.commands import is_over, own_mark

MARK = "from edgebench.containers.commands import own_mark; print(own_mark())"


def test_a_command_is_over_when_its_process_is_gone_or_its_number_is_anothers() -> None:
    of_another = subprocess.run([sys.executable, "-c", MARK], capture_output=True, text=True, check=True).stdout.strip()
    boot, namespace, _, birth = of_another.split(":")
    assert not is_over(own_mark())
    assert is_over(of_another)
    assert is_over(f"{boot}:{namespace}:{os.getpid()}:{birth}0")


def test_what_was_before_a_restart_of_the_computer_is_over() -> None:
    _, namespace, pid, birth = own_mark().split(":")
    assert is_over(f"another-boot:{namespace}:{pid}:{birth}")


def test_a_command_that_cannot_be_seen_from_here_is_taken_to_go_on() -> None:
    boot, namespace, _, birth = own_mark().split(":")
    assert not is_over(f"{boot}:{int(namespace) + 1}:999999999:{birth}")
    assert not is_over("of another version")
