"""What the whole machine does while a run goes on, and how much of it is the work of others."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from edgebench.clock import NS_PER_S, now_ns, thread_cpu_s
from edgebench.cpu import CpuTimes, cpu_times, usable
from edgebench.fabric.child_process import usage_of_family
from edgebench.fabric.records import HostUsage

_PRESSURE = Path("/proc/pressure/cpu")
_US_PER_S = 1_000_000


class HostMeter:
    """Samples the processors that this process may use.

    roots: the processes (pids) whose work, with that of all below them, is a run's own, and of this process the thread
    that samples (all of it where it is a root itself). Everything else is foreign, whoever has started it: what a
    program does beside the run that it began, and another run at its side.
    """

    def __init__(self, roots: Callable[[], Iterable[int]]) -> None:
        self._roots = roots
        self._cpus = usable()
        self._last = self._reading()

    def sample(self) -> HostUsage | None:
        """The use of the machine since the sample before; None where the kernel's clock has not moved since."""
        before, self._last = self._last, self._reading()
        spent = self._last.cpu.since(before.cpu)
        if spent.total_s <= 0:
            return None
        pressure = None
        if self._last.waited_s is not None and before.waited_s is not None:
            span_s = (self._last.at_ns - before.at_ns) / NS_PER_S
            pressure = min(1.0, (self._last.waited_s - before.waited_s) / span_s)
        own_s = spent_s(before.own_s, self._last.own_s)
        return HostUsage(
            at_ns=self._last.at_ns,
            busy=1.0 - spent.idle_s / spent.total_s,
            stolen=spent.stolen_s / spent.total_s,
            foreign=None if own_s is None else max(0.0, spent.work_s - own_s) / spent.total_s,
            pressure=pressure,
            since_ns=before.at_ns,
            own=None if own_s is None else own_s / spent.total_s,
        )

    def _reading(self) -> _Reading:
        return _Reading(now_ns(), cpu_times(self._cpus), own_cpu_s(self._roots()), _waited_s())


class _Reading(NamedTuple):
    """own_s: by root. waited_s: in which any process of the machine waited for a core (pressure stall information)."""

    at_ns: int
    cpu: CpuTimes
    own_s: dict[int, float]
    waited_s: float | None


def spent_s(before_s: Mapping[int, float], after_s: Mapping[int, float]) -> float | None:
    """What roots used between two readings; None where one has ended, and what it used at last is not known."""
    if not before_s.keys() <= after_s.keys():
        return None
    # A child that ended without being waited for takes its time along.
    return sum(max(0.0, used_s - before_s.get(root, 0.0)) for root, used_s in after_s.items())


def own_cpu_s(roots: Iterable[int]) -> dict[int, float]:
    """By root that lives: the CPU time of it and all below it, those included that have ended and were waited for. Of
    this process, unless it is one of them, that of the calling thread."""
    found = {root: used.cpu_s for root in roots if (used := usage_of_family(root)) is not None}
    return {os.getpid(): thread_cpu_s(), **found}


def _waited_s() -> float | None:
    """Where the kernel keeps count of it (Linux 4.20 and later, unless it was built without)."""
    try:
        some = _PRESSURE.read_text("utf-8").splitlines()[0]
        return int(some.rpartition("total=")[2]) / _US_PER_S
    except (OSError, IndexError, ValueError):
        return None
