"""The one place where the time is read.

Every time stamp of a run is `now_ns()`: nanoseconds of the machine's monotonic clock, which all
processes of one machine share. Wall time serves only to name things.

For tests EDGEBENCH_CLOCK="OFFSET_NS,DRIFT_PPM" gives a process the clock of another machine, which is ahead by the one
and gains the other. It is read once, on import; without it `now_ns` is the bare built-in function.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Protocol

NS_PER_S = 1_000_000_000
NS_PER_MS = 1_000_000
NS_PER_US = 1_000

OTHER_CLOCK = "EDGEBENCH_CLOCK"


def other_clock(offset_and_drift: str) -> Callable[[], int]:
    """A clock that is `OFFSET_NS,DRIFT_PPM` ahead of this machine's; the drift counts from when that started."""
    offset, _, drift_ppm = offset_and_drift.partition(",")
    offset_ns, gain_ppb = int(offset), round(float(drift_ppm or 0) * 1_000)

    def now_ns() -> int:
        here_ns = time.monotonic_ns()
        return here_ns + offset_ns + here_ns * gain_ppb // NS_PER_S

    return now_ns


now_ns: Callable[[], int] = other_clock(os.environ[OTHER_CLOCK]) if OTHER_CLOCK in os.environ else time.monotonic_ns
sleep_s = time.sleep


def now_s() -> float:
    """Seconds of the same clock as `now_ns`."""
    return now_ns() / NS_PER_S


def thread_cpu_s() -> float:
    """CPU time of the calling thread, s."""
    return time.thread_time()


def utc_now() -> datetime:
    """Wall time in UTC, for names and reports; never for measuring."""
    return datetime.now(UTC)


class Clock(Protocol):
    """Where logic that is run in real and in virtual time reads it from."""

    def now_ns(self) -> int:
        """The time in ns; it never goes back."""
        ...


class Time(Clock, Protocol):
    """A clock that calls back."""

    def call_at(self, due_ns: int, call: Callable[[], None]) -> object:
        """Call at a time, or as soon as can be where it has passed."""
        ...


class RealClock:
    """The machine's."""

    now_ns = staticmethod(now_ns)


class OffsetClock:
    """Another machine's: `offset_ns` ahead of a clock of this one."""

    def __init__(self, clock: Clock, offset_ns: int) -> None:
        self._clock = clock
        self.offset_ns = offset_ns

    def now_ns(self) -> int:
        """The time there in ns."""
        return self._clock.now_ns() + self.offset_ns


class VirtualClock:
    """Stands still until it is moved.

    >>> clock = VirtualClock(5)
    >>> clock.move_to(7)
    >>> clock.now_ns()
    7
    """

    def __init__(self, start_ns: int = 0) -> None:
        self._now_ns = start_ns

    def now_ns(self) -> int:
        """The time in ns."""
        return self._now_ns

    def move_to(self, at_ns: int) -> None:
        """It is `at_ns` now. Raises ValueError where that has passed."""
        if at_ns < self._now_ns:
            raise ValueError(f"{at_ns} ns has passed: it is {self._now_ns} ns")
        self._now_ns = at_ns
