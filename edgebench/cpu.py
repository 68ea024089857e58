"""The CPU time of the whole machine, each second of it counted once."""

from __future__ import annotations

from typing import Any, NamedTuple

import psutil


class CpuTimes(NamedTuple):
    """s of all cores together. idle_s: waiting for a disk included; stolen_s: taken by other guests of the hardware;
    work_s: of processes, so without interrupts, which are nobody's."""

    total_s: float
    idle_s: float
    stolen_s: float
    work_s: float

    def since(self, before: CpuTimes) -> CpuTimes:
        """What was added after an earlier reading."""
        return CpuTimes(*(now - then for now, then in zip(self, before, strict=True)))


def cpu_times() -> CpuTimes:
    """Since the machine started."""
    return counted_once(psutil.cpu_times())


def counted_once(times: Any) -> CpuTimes:
    """times: as psutil gives them. On Linux what virtual machines ran stands under `user` and again under `guest`, and
    likewise under `nice` and `guest_nice`."""

    def of(name: str) -> float:
        return float(getattr(times, name, 0.0))

    total_s = sum(times) - of("guest") - of("guest_nice")
    return CpuTimes(total_s, of("idle") + of("iowait"), of("steal"), of("user") + of("nice") + of("system"))
