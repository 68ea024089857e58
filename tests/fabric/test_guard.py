"""The guard: in the command's place where the kernel helps, or beside it, with an eye on all that it starts."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from edgebench.clock import now_s, sleep_s
from edgebench.fabric import guard
from tests.fabric.ended import check_gone

WAIT_S = 30.0
CHILDREN = """
import os, subprocess, sys, time
children = [subprocess.Popen(["sleep", "1000"]), subprocess.Popen(["sleep", "1000"], start_new_session=True)]
print(*[child.pid for child in children], os.getpid(), flush=True)
{then}
"""
"""Starts a process in its own group and one in another session, holds its pipe open by both, and says their ids."""


def watched(then: str, patience_s: float = 20.0) -> tuple[subprocess.Popen[bytes], list[int]]:
    command = guard.guarded([sys.executable, "-c", CHILDREN.format(then=then)], family_patience_s=patience_s)
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stdin=subprocess.PIPE)
    assert process.stdout is not None
    return process, list(map(int, process.stdout.readline().split()))


def test_the_command_takes_the_guards_place_and_its_status_comes_through() -> None:
    process = subprocess.Popen(
        guard.guarded([sys.executable, "-c", "import os, sys; print(os.getpid(), flush=True); sys.exit(7)"]),
        stdout=subprocess.PIPE,
    )
    output, _ = process.communicate()
    assert process.returncode == 7
    assert not sys.platform.startswith("linux") or int(output) == process.pid


@pytest.mark.parametrize("patience_s", [None, 1.0], ids=["alone", "family"])
def test_a_guard_whose_parent_is_gone_already_does_not_run_the_command(patience_s: float | None) -> None:
    command = guard.guarded([sys.executable, "-c", "print('ran')"], family_patience_s=patience_s)
    command[command.index(str(os.getpid()))] = "1"
    done = subprocess.run(command, stdout=subprocess.PIPE)
    assert done.returncode != 0
    assert done.stdout == b""


@pytest.mark.parametrize(
    ("then", "status"), [("sys.exit(7)", 7), ("os.abort()", -signal.SIGABRT), ("os.kill(os.getpid(), 9)", -9)]
)
def test_what_a_command_has_started_ends_with_it_and_its_status_comes_through(then: str, status: int) -> None:
    process, pids = watched(then)
    output, _ = process.communicate(timeout=WAIT_S)  # which ends with the last holder of the pipe
    assert (process.returncode, output) == (status, b"")
    check_gone(*pids)


def test_a_command_may_end_in_good_order_when_it_is_asked_to() -> None:
    process, pids = watched(
        "import signal; signal.signal(15, lambda *_: (print('ending', flush=True), sys.exit(3)))\n"
        "print('up', flush=True); time.sleep(1000)"
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"up\n"
    process.terminate()
    output, _ = process.communicate(timeout=WAIT_S)
    assert (process.returncode, output) == (3, b"ending\n")
    check_gone(*pids)


def test_a_command_that_does_not_end_when_it_is_asked_to_is_killed_after_its_patience() -> None:
    process, pids = watched(
        "import signal; signal.signal(15, signal.SIG_IGN); print('up', flush=True); time.sleep(1000)", patience_s=0.3
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"up\n"
    process.terminate()
    process.communicate(timeout=WAIT_S)
    assert process.returncode == -signal.SIGKILL
    check_gone(*pids)


def test_a_family_does_not_outlive_a_parent_that_is_killed(tmp_path: Path) -> None:
    parent = (
        "import subprocess, sys, time\nfrom edgebench.fabric.guard import guarded\n"
        f"subprocess.Popen(guarded([sys.executable, '-c', {CHILDREN.format(then='time.sleep(1000)')!r}], "
        "family_patience_s=20.0), stdout=open(sys.argv[1], 'wb'))\ntime.sleep(1000)"
    )
    told = tmp_path / "told"
    process = subprocess.Popen([sys.executable, "-c", parent, str(told)])
    until_s = now_s() + WAIT_S
    while not told.exists() or not told.read_text().endswith("\n"):
        assert now_s() < until_s
        sleep_s(0.02)
    process.kill()
    process.wait()
    check_gone(*map(int, told.read_text().split()))


def test_a_command_that_is_not_there_is_named() -> None:
    done = subprocess.run(guard.guarded(["/no/such/program"], family_patience_s=1.0), stderr=subprocess.PIPE, text=True)
    assert done.returncode == 127
    assert "/no/such/program" in done.stderr
