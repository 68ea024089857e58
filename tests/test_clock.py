"""The clocks that logic reads."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from edgebench.clock import NS_PER_S, OTHER_CLOCK, Clock, OffsetClock, RealClock, SteppedClock, VirtualClock, now_ns


def test_the_real_clock_is_that_of_every_time_stamp() -> None:
    clock: Clock = RealClock()
    assert now_ns() <= clock.now_ns() <= now_ns()


def test_a_clock_of_another_machine_is_ahead_by_its_offset() -> None:
    here = VirtualClock(100)
    there = OffsetClock(here, -30)
    here.move_to(150)
    assert there.now_ns() == 120
    there.offset_ns = 5
    assert there.now_ns() == 155


def test_virtual_time_stands_still_and_never_goes_back() -> None:
    clock = VirtualClock(5)
    assert [clock.now_ns(), clock.now_ns()] == [5, 5]
    with pytest.raises(ValueError, match="4 ns has passed: it is 5 ns"):
        clock.move_to(4)


READS = """
import sys, time
from edgebench.clock import now_ns, now_s, system_ns
def read(clock):
    return time.monotonic_ns(), clock(), time.monotonic_ns()
"""
"""A clock between two readings of the system's own, for a process may stand still in between."""


def test_a_process_may_have_the_clock_of_another_machine() -> None:
    program = [sys.executable, "-c", READS + "print(*read(now_ns), now_s())"]
    environment = {**os.environ, OTHER_CLOCK: "5000000000000,200"}
    told = subprocess.run(program, env=environment, capture_output=True, text=True, check=True)
    before_ns, there_ns, after_ns, there_s = map(float, told.stdout.split())

    def there(here_ns: float) -> float:  # 200 ppm of the time since this machine started come on top
        return 5_000 * NS_PER_S + here_ns + 200e-6 * here_ns

    assert there(before_ns) - 1e3 <= there_ns <= there(after_ns) + 1e3
    assert there_s > 5_000


SHARES = f"""{READS}
print(*read(now_ns), flush=True)
sys.stdin.readline()
print(*read(now_ns), *read(lambda: system_ns(now_ns())))
"""


def check_ahead(told: Sequence[int], by_s: int) -> None:
    """So far is a clock ahead that was read between two readings of the system's."""
    before_ns, there_ns, after_ns = told
    assert before_ns <= there_ns - by_s * NS_PER_S <= after_ns


def test_a_clock_that_is_stepped_is_so_for_all_who_read_it_and_never_goes_back(tmp_path: Path) -> None:
    environment = {**os.environ, OTHER_CLOCK: f"@{tmp_path / 'ahead'}"}
    clock = SteppedClock(tmp_path / "ahead")
    clock.step(2 * NS_PER_S)
    program = [sys.executable, "-c", SHARES]
    with subprocess.Popen(
        program, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        first = [int(word) for word in process.stdout.readline().split()]
        clock.step(NS_PER_S)
        after, _ = process.communicate("\n")
    then = [int(word) for word in after.split()]
    check_ahead(first, by_s=2)
    check_ahead(then[:3], by_s=3)
    check_ahead(then[3:], by_s=0)
    with pytest.raises(ValueError, match="does not go back"):
        clock.step(-1)


def test_a_clock_whose_file_cannot_be_written_is_refused_in_a_line(tmp_path: Path) -> None:
    environment = {**os.environ, OTHER_CLOCK: f"@{tmp_path / 'none' / 'ahead'}"}
    program = [sys.executable, "-c", "import edgebench.clock"]
    done = subprocess.run(program, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "No such file or directory (name a file that can be written)" in done.stderr


def test_without_that_the_time_is_read_by_the_bare_built_in() -> None:
    assert now_ns is time.monotonic_ns  # noqa: TID251


@pytest.mark.parametrize("said", ["", "OFFSET,DRIFT", "1,2,3", "5,inf", "5,nan", "soon"])
def test_a_clock_that_is_none_is_refused_in_a_line(said: str) -> None:
    environment = {**os.environ, OTHER_CLOCK: said}
    program = [sys.executable, "-c", "import edgebench.clock"]
    done = subprocess.run(program, env=environment, capture_output=True, text=True, check=False)
    told = f"{OTHER_CLOCK}={said}: neither OFFSET_NS,DRIFT_PPM nor @FILE (write two numbers, such as 5000000000,200)\n"
    assert (done.returncode, done.stderr) == (2, told)
