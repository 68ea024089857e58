"""The clocks that logic reads."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest

from edgebench.clock import NS_PER_S, OTHER_CLOCK, Clock, OffsetClock, RealClock, VirtualClock, now_ns


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


def test_a_process_may_have_the_clock_of_another_machine() -> None:
    program = "from edgebench.clock import now_ns, now_s; import time; print(now_ns() - time.monotonic_ns(), now_s())"
    environment = {**os.environ, OTHER_CLOCK: "5000000000000,200"}
    told = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    ahead_ns, there_s = map(float, told.stdout.split())
    # 200 ppm of the time since this machine started come on top.
    assert ahead_ns / NS_PER_S == pytest.approx(5_000 + 200e-6 * now_ns() / NS_PER_S, abs=0.01)
    assert there_s > 5_000


def test_without_that_the_time_is_read_by_the_bare_built_in() -> None:
    assert now_ns is time.monotonic_ns  # noqa: TID251
