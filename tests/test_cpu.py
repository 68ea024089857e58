"""The CPU time of the whole machine."""

from typing import NamedTuple

from edgebench.cpu import CpuTimes, counted_once, cpu_times


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
