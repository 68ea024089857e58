"""The processors that this process may use: which they are, and their CPU time, each second of it counted once."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple


class CpuTimes(NamedTuple):
    """s of these cores together. idle_s: waiting for a disk included; stolen_s: taken by other guests of the hardware;
    work_s: of processes, so without interrupts, which are nobody's."""

    total_s: float
    idle_s: float
    stolen_s: float
    work_s: float

    def since(self, before: CpuTimes) -> CpuTimes:
        """What was added after an earlier reading."""
        return CpuTimes(*(now - then for now, then in zip(self, before, strict=True)))


_STAT = Path("/proc/stat")
_BOOT = Path("/proc/sys/kernel/random/boot_id")
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


class _Ticks(NamedTuple):
    """The columns of /proc/stat; psutil names a core by its place among those that are on, not by its number."""

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


def usable() -> frozenset[int]:
    """The numbers of the processors that this process, and what it starts, may use; empty where all are and the system
    does not tell."""
    return frozenset(os.sched_getaffinity(0)) if sys.platform.startswith("linux") else frozenset()


def core_count() -> int:
    """How many processors this process may use."""
    return len(usable()) or os.cpu_count() or 1


def shared_name() -> str:
    """One word for the processors that this process may use: the same for all processes of this computer that may use
    the same, in whatever namespace, container or emulator, and never that of another computer's.

    Empty where the system does not tell.
    """
    try:
        boot = _BOOT.read_text("utf-8").strip()
    except OSError:
        return ""
    return f"{boot}:{','.join(map(str, sorted(usable())))}"


def cpu_times(cpus: frozenset[int] | None = None) -> CpuTimes:
    """Since the machine started, of these processors; of those that are `usable` where none are named."""
    if not sys.platform.startswith("linux"):
        import psutil

        return counted_once(psutil.cpu_times())
    return times_of(_STAT.read_text("utf-8").splitlines(), usable() if cpus is None else cpus)


def times_of(stat: Iterable[str], cpus: frozenset[int]) -> CpuTimes:
    """What the lines of /proc/stat say of some processors."""
    names = {f"cpu{number}" for number in cpus}
    lines = [line.split() for line in stat]
    columns = [map(int, words[1 : 1 + len(_Ticks._fields)]) for words in lines if words and words[0] in names]
    return counted_once(_Ticks(*(sum(ticks) / _TICKS_PER_S for ticks in zip(*columns, strict=True))))


def counted_once(times: Any) -> CpuTimes:
    """times: as psutil gives them. On Linux what virtual machines ran stands under `user` and again under `guest`, and
    likewise under `nice` and `guest_nice`."""

    def of(name: str) -> float:
        return float(getattr(times, name, 0.0))

    total_s = sum(times) - of("guest") - of("guest_nice")
    return CpuTimes(total_s, of("idle") + of("iowait"), of("steal"), of("user") + of("nice") + of("system"))


def cpu_model() -> str:
    """What the processor calls itself, as far as the system tells."""
    try:
        for line in Path("/proc/cpuinfo").read_text("utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
        return Path("/proc/device-tree/model").read_text("utf-8").strip("\0\n")  # of a board
    except OSError:
        return platform.processor()
