"""What the whole machine does while a run goes on, and how much of it is the work of others."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

from edgebench.clock import NS_PER_S, now_ns
from edgebench.cpu import CpuTimes, cpu_times
from edgebench.fabric.child_process import usage_of_family
from edgebench.fabric.records import HostUsage

_PRESSURE = Path("/proc/pressure/cpu")
_US_PER_S = 1_000_000


class HostMeter:
    """Samples the machine. The work of this process and of all below it is its own, everything else is foreign."""

    def __init__(self) -> None:
        self._last = _reading()

    def sample(self) -> HostUsage | None:
        """The use of the machine since the sample before; None where the kernel's clock has not moved since."""
        before, self._last = self._last, _reading()
        spent = self._last.cpu.since(before.cpu)
        if spent.total_s <= 0:
            return None
        # A child that ended without being waited for takes its time along.
        own_s = max(0.0, self._last.own_s - before.own_s)
        pressure = None
        if self._last.waited_s is not None and before.waited_s is not None:
            span_s = (self._last.at_ns - before.at_ns) / NS_PER_S
            pressure = min(1.0, (self._last.waited_s - before.waited_s) / span_s)
        return HostUsage(
            at_ns=self._last.at_ns,
            busy=1.0 - spent.idle_s / spent.total_s,
            stolen=spent.stolen_s / spent.total_s,
            foreign=max(0.0, spent.work_s - own_s) / spent.total_s,
            pressure=pressure,
            since_ns=before.at_ns,
        )


class _Reading(NamedTuple):
    """waited_s: in which any process of the machine waited for a core (pressure stall information)."""

    at_ns: int
    cpu: CpuTimes
    own_s: float
    waited_s: float | None


def _reading() -> _Reading:
    return _Reading(now_ns(), cpu_times(), own_cpu_s(), _waited_s())


def own_cpu_s() -> float:
    """CPU time of this process and all below it, those included that have ended and were waited for."""
    used = usage_of_family(os.getpid())
    assert used is not None  # this process lives
    return used.cpu_s


def _waited_s() -> float | None:
    """Where the kernel keeps count of it (Linux 4.20 and later, unless it was built without)."""
    try:
        some = _PRESSURE.read_text().splitlines()[0]
        return int(some.rpartition("total=")[2]) / _US_PER_S
    except (OSError, IndexError, ValueError):
        return None
