import os
import subprocess
import sys
import threading
from collections.abc import Callable

from edgebench.clock import now_s, sleep_s, thread_cpu_s
from edgebench.cpu import usable
from edgebench.executors.host_meter import HostMeter, own_cpu_s, spent_s

BURN_S = 0.6
BURN = f"import time\nwhile time.process_time() < {BURN_S}: pass"
ORPHAN = f"import subprocess, sys; print(subprocess.Popen([sys.executable, '-c', {BURN!r}], stdout=2).pid)"
"""A process whose child outlives it, and is nobody's from then on."""


def test_the_time_of_a_child_is_its_root_s_while_it_lives_and_when_it_has_ended() -> None:
    this = os.getpid()
    before_s = own_cpu_s([this])
    subprocess.run([sys.executable, "-c", BURN], check=True)
    assert own_cpu_s([this])[this] - before_s[this] >= BURN_S - 0.05


def test_the_time_of_a_process_elsewhere_is_foreign() -> None:
    watched = Watched(lambda: [os.getpid()])
    pid = int(subprocess.run([sys.executable, "-c", ORPHAN], check=True, capture_output=True, text=True).stdout)
    while _lives(pid):
        sleep_s(0.02)
    assert watched.foreign_s() >= 0.5 * BURN_S


def test_what_a_program_does_beside_its_run_is_foreign_to_the_run() -> None:
    # A thread of this process, and a process that it has started: another run at this one's side would be such a one.
    watched = Watched(list)
    thread = threading.Thread(target=lambda: _burn(BURN_S))
    thread.start()
    subprocess.run([sys.executable, "-c", BURN], check=True)
    thread.join()
    assert watched.foreign_s() >= 2 * 0.5 * BURN_S


def test_what_the_parts_of_a_run_and_its_own_thread_do_is_its_own() -> None:
    # What it takes to start is no part of what it is then asked to do.
    program = f"import time\ninput()\nend_s = time.process_time() + {BURN_S}\nwhile time.process_time() < end_s: pass\n"
    command = [sys.executable, "-c", program + "print(flush=True)\ninput()"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as part:
        assert part.stdin is not None
        assert part.stdout is not None
        own_s = own_cpu_s([part.pid])
        part.stdin.write(b"\n")
        part.stdin.flush()
        _burn(BURN_S)
        part.stdout.readline()
        assert (spent_s(own_s, own_cpu_s([part.pid])) or 0.0) >= 2 * BURN_S - 0.15
        part.communicate(b"\n")


def test_own_work_is_that_of_all_roots_since_the_reading_before() -> None:
    # One that began since is new to the last s, and one whose child ended unwaited for has used nothing less.
    assert spent_s({1: 4.0, 2: 3.0}, {1: 4.5, 2: 2.5, 3: 0.25}) == 0.75


def test_of_a_second_in_which_a_part_ended_nobody_knows_what_was_foreign() -> None:
    assert spent_s({1: 4.0, 2: 3.0}, {1: 4.5}) is None


def test_shares_are_of_all_cores_and_within_one() -> None:
    meter = HostMeter(lambda: [os.getpid()])
    sleep_s(0.2)
    used = meter.sample()
    assert used is not None
    assert used.since_ns is not None
    assert used.at_ns - used.since_ns >= 200_000_000
    assert used.foreign is not None
    assert 0.0 <= used.foreign <= used.busy + 1e-9 <= 1.0 + 1e-9
    assert used.own is not None
    assert 0.0 <= used.own <= 1.0
    assert used.pressure is None or 0.0 <= used.pressure <= 1.0


class Watched:
    """The machine from now on."""

    def __init__(self, roots: Callable[[], list[int]]) -> None:
        self._meter, self._began_s = HostMeter(roots), now_s()

    def foreign_s(self) -> float:
        """CPU time of others."""
        usage = self._meter.sample()
        assert usage is not None
        assert usage.foreign is not None
        return usage.foreign * (now_s() - self._began_s) * len(usable())


def _burn(cpu_s: float) -> None:
    until_s = thread_cpu_s() + cpu_s
    while thread_cpu_s() < until_s:
        pass


def _lives(pid: int) -> bool:
    import psutil

    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False
