"""How busy the machine is, and what the parts use that do not record it themselves."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import psutil

from edgebench.clock import now_ns
from edgebench.cpu import cpu_times
from edgebench.executors.processes import PartProcess
from edgebench.fabric.records import Entry, HostUsage, HostUsed, Usage, Used


class UsageSampler:
    """Each `sample` is about the time since the one before."""

    def __init__(self, write: Callable[[Entry], None]) -> None:
        self._write = write
        self._last_cpu = cpu_times()

    def sample(self, running: Iterable[PartProcess]) -> None:
        """Write down the use of the host, and of the parts that host no node."""
        self._sample_host()
        for each in running:
            if each.part.nodes:
                continue  # node processes record their own
            try:
                process = psutil.Process(each.process.pid)
                cpu, memory = process.cpu_times(), process.memory_info()
            except psutil.Error:
                continue
            self._write(Used([each.part.name], Usage(now_ns(), cpu.user + cpu.system, memory.rss)))

    def _sample_host(self) -> None:
        times = cpu_times()
        spent, self._last_cpu = times.since(self._last_cpu), times
        if spent.total_s > 0:
            busy, stolen = 1.0 - spent.idle_s / spent.total_s, spent.stolen_s / spent.total_s
            self._write(HostUsed(HostUsage(now_ns(), busy, stolen)))
