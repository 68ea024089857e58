"""The clocks that logic reads."""

from __future__ import annotations

import pytest

from edgebench.clock import Clock, OffsetClock, RealClock, VirtualClock, now_ns


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
