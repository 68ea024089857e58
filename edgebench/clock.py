"""The one place where the time is read.

Every time stamp of a run is `now_ns()`: nanoseconds of the machine's monotonic clock, which all
processes of one machine share. Wall time serves only to name things.

EDGEBENCH_CLOCK gives a process another clock; it is read once, on import, and without it `now_ns` is the bare built-in
function. "OFFSET_NS,DRIFT_PPM", for tests, is the clock of another machine, which is ahead by the one and gains the
other. "@FILE" is as far ahead as the file says, in ns, for all processes that name it: such a clock can be stepped.
"""

from __future__ import annotations

import mmap
import os
import struct
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import NoReturn, Protocol

NS_PER_S = 1_000_000_000
NS_PER_MS = 1_000_000
NS_PER_US = 1_000

OTHER_CLOCK = "EDGEBENCH_CLOCK"
_AHEAD = struct.Struct("q")


def other_clock(offset_and_drift: str) -> Callable[[], int]:
    """A clock that is `OFFSET_NS,DRIFT_PPM` ahead of this machine's; the drift counts from when that started."""
    offset, _, drift_ppm = offset_and_drift.partition(",")
    offset_ns, gain_ppb = int(offset), round(float(drift_ppm or 0) * 1_000)

    def now_ns() -> int:
        here_ns = time.monotonic_ns()
        return here_ns + offset_ns + here_ns * gain_ppb // NS_PER_S

    return now_ns


class SteppedClock:
    """Ahead of this machine's by what a file says: 8 bytes, ns, in this machine's order of bytes."""

    def __init__(self, path: Path) -> None:
        """A file that is not there, or has nothing in it, says 0."""
        with path.open("ab") as file:
            if file.tell() < _AHEAD.size:
                file.truncate(_AHEAD.size)
        with path.open("r+b") as file:
            self._said = mmap.mmap(file.fileno(), _AHEAD.size)
        self._ahead_ns = memoryview(self._said).cast("q")

    def now_ns(self) -> int:
        """Its time."""
        return time.monotonic_ns() + self._ahead_ns[0]

    def step(self, by_ns: int) -> None:
        """Step it, for all who read it. Raises ValueError where it would go back."""
        if by_ns < 0:
            raise ValueError(f"{by_ns} ns: a monotonic clock does not go back")
        self._ahead_ns[0] += by_ns


def _stepped() -> SteppedClock | None:
    said = os.environ.get(OTHER_CLOCK, "")
    if not said.startswith("@"):
        return None
    try:
        return SteppedClock(Path(said.removeprefix("@")))
    except OSError as error:
        _refuse(f"{error.strerror} (name a file that can be written)")


def _refuse(why: str) -> NoReturn:
    """On import, where nobody else could tell it in a line."""
    sys.stderr.write(f"{OTHER_CLOCK}={os.environ[OTHER_CLOCK]}: {why}\n")
    raise SystemExit(2) from None


def _clock() -> Callable[[], int]:
    if STEPPED is not None:
        return STEPPED.now_ns
    if OTHER_CLOCK not in os.environ:
        return time.monotonic_ns
    try:
        return other_clock(os.environ[OTHER_CLOCK])
    except (ValueError, OverflowError):
        _refuse("neither OFFSET_NS,DRIFT_PPM nor @FILE (write two numbers, such as 5000000000,200)")


STEPPED = _stepped()
"""The clock of this process, where it can be stepped."""
now_ns: Callable[[], int] = _clock()
sleep_s = time.sleep


def _system_ns(at_ns: int) -> int:
    return at_ns - now_ns() + time.monotonic_ns()


system_ns: Callable[[int], int] | None = None if now_ns is time.monotonic_ns else _system_ns
"""What the system's own clock, by which the kernel keeps timers, reads at a time of `now_ns`, as far as can be told
now; None where they are one."""


def now_s() -> float:
    """Seconds of the same clock as `now_ns`."""
    return now_ns() / NS_PER_S


def age_ns(wall_ns: int) -> int:
    """How long ago a wall time of this machine was, of which the kernel told a moment ago."""
    return time.time_ns() - wall_ns


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
