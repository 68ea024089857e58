"""How busy the machine is, and what the parts use that do not record it themselves."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import psutil

from edgebench.clock import now_ns
from edgebench.executors.host_meter import HostMeter
from edgebench.executors.processes import PartProcess
from edgebench.fabric.hiccups import COMMAND, HiccupMeter
from edgebench.fabric.records import Entry, Hiccuped, HostUsed, Usage, Used


class UsageSampler:
    """Each `sample` is about the time since the one before."""

    def __init__(self, write: Callable[[Entry], None]) -> None:
        self._write = write
        self._host = HostMeter()
        self._hiccups = HiccupMeter()

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
        usage = self._host.sample()
        if usage is not None:
            self._write(HostUsed(usage))
        self._write(Hiccuped(COMMAND, self._hiccups.take()))
