"""The CPU time of the processors that a process may use."""

import os
import subprocess
import sys
from typing import NamedTuple

from edgebench.cpu import CpuTimes, counted_once, cpu_times, shared_name, times_of, usable


class Linux(NamedTuple):
    """As psutil gives them on Linux, s."""

    user: float
    nice: float
    system: float
    idle: float
    iowait: float
    irq: float
    softirq: float
    steal: float
    guest: float
    guest_nice: float


class Mac(NamedTuple):
    """As psutil gives them on macOS, s."""

    user: float
    nice: float
    system: float
    idle: float


def test_what_virtual_machines_ran_is_counted_once() -> None:
    # 30 of the 40 s of user, and all of nice, were those of virtual machines.
    times = counted_once(Linux(40, 5, 10, 30, 10, 1, 1, 3, 30, 5))
    assert times == CpuTimes(total_s=100, idle_s=40, stolen_s=3, work_s=55)


def test_a_system_that_tells_less_is_counted_too() -> None:
    assert counted_once(Mac(40, 0, 10, 50)) == CpuTimes(total_s=100, idle_s=50, stolen_s=0, work_s=50)


def test_what_was_added_since_an_earlier_reading() -> None:
    assert CpuTimes(10, 4, 1, 5).since(CpuTimes(4, 1, 1, 2)) == CpuTimes(6, 3, 0, 3)
    assert cpu_times().since(cpu_times()).total_s <= 0


STAT = """\
cpu  9999 0 0 9999 0 0 0 0 0 0
cpu0 {a} 0 0 {b} 0 0 0 0 0 0
cpu2 {b} 0 {a} 0 0 0 0 {a} 0 0
cpu20 9999 0 0 0 0 0 0 0 0 0
intr 1 2 3
"""
"""cpu1 is off. a, b: ticks of 1 and 3 s."""


def test_only_the_cores_that_a_process_may_use_count_each_by_its_number() -> None:
    ticks = os.sysconf("SC_CLK_TCK")
    lines = STAT.format(a=ticks, b=3 * ticks).splitlines()
    assert times_of(lines, frozenset({2})) == CpuTimes(total_s=5, idle_s=0, stolen_s=1, work_s=4)
    assert times_of(lines, frozenset({0, 2})) == CpuTimes(total_s=9, idle_s=3, stolen_s=1, work_s=5)


def test_what_a_process_may_use_is_its_affinity() -> None:
    allowed = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(allowed)})
        assert usable() == {min(allowed)}
        assert cpu_times().total_s < cpu_times(frozenset(allowed)).total_s or len(allowed) == 1
    finally:
        os.sched_setaffinity(0, allowed)


def test_processes_that_may_use_the_same_processors_of_a_computer_name_them_alike() -> None:
    ask = "from edgebench.cpu import shared_name; print(shared_name())"
    fewer = f"import os; os.sched_setaffinity(0, {{{min(usable())}}}); {ask}"
    same, other = (
        subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.strip()
        for code in (ask, fewer)
    )
    assert same == shared_name() != ""
    assert (other == same) is (len(usable()) == 1)
