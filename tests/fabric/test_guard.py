"""The guard: in the command's place where the kernel helps, and beside it elsewhere."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import psutil

from edgebench.clock import now_s, sleep_s
from edgebench.fabric import guard

STAY = "import sys; from edgebench.fabric import guard; sys.exit(guard._stay_and_watch(int(sys.argv[1]), sys.argv[2:]))"


def test_the_command_takes_the_guards_place_and_its_status_comes_through() -> None:
    process = subprocess.Popen(
        guard.guarded([sys.executable, "-c", "import os, sys; print(os.getpid(), flush=True); sys.exit(7)"]),
        stdout=subprocess.PIPE,
    )
    output, _ = process.communicate()
    assert process.returncode == 7
    assert not sys.platform.startswith("linux") or int(output) == process.pid


def test_a_guard_whose_parent_is_gone_already_does_not_run_the_command() -> None:
    command = guard.guarded([sys.executable, "-c", "print('ran')"])
    command[command.index(str(os.getpid()))] = "1"
    done = subprocess.run(command, stdout=subprocess.PIPE)
    assert done.returncode != 0
    assert done.stdout == b""


def test_a_guard_that_stays_hands_on_status_and_signals() -> None:
    parent = str(os.getpid())
    quick = subprocess.run([sys.executable, "-c", STAY, parent, sys.executable, "-c", "import sys; sys.exit(7)"])
    assert quick.returncode == 7
    sleeper = [sys.executable, "-c", "import time; print('up', flush=True); time.sleep(60)"]
    with subprocess.Popen([sys.executable, "-c", STAY, parent, *sleeper], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"up\n"
        process.terminate()
        assert process.wait() == 128 + signal.SIGTERM


def test_a_guard_that_stays_kills_the_command_when_the_parent_changes() -> None:
    sleeper = [sys.executable, "-c", "import os, time; print(os.getpid(), flush=True); time.sleep(60)"]
    with subprocess.Popen([sys.executable, "-c", STAY, "1", *sleeper], stdout=subprocess.PIPE) as process:
        assert process.wait() != 0
        assert process.stdout is not None
        line = process.stdout.readline()
    until_s = now_s() + 10
    while line and psutil.pid_exists(int(line)):
        assert now_s() < until_s
        sleep_s(0.02)
