"""How busy the machine is, and what the parts use that do not record it themselves."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence

import msgspec

from edgebench.executors.host_meter import HostMeter
from edgebench.executors.power_meter import Meter, MeterReader
from edgebench.executors.processes import PartProcess
from edgebench.fabric.child_process import usage_of_family
from edgebench.fabric.records import Entry, HostUsed, Used


class UsageSampler:
    """Each `sample` is about the time since the one before; all come from one thread, whose work is the run's own.

    running: all parts that this process has started, as they come and go. for_runs_only: it does nothing else. meter:
    of the machine's power.
    """

    def __init__(
        self,
        running: Sequence[PartProcess],
        write: Callable[[Entry], None],
        meter: Meter | None,
        *,
        for_runs_only: bool = False,
    ) -> None:
        self._running = running
        self._write = write
        self._host = HostMeter(
            (lambda: [os.getpid()]) if for_runs_only else (lambda: [each.process.pid for each in self._running])
        )
        self._power = MeterReader(meter, write)

    def sample(self) -> None:
        """Write down the use of the host, and of the parts that host no node."""
        self._sample_host()
        for each in self._running:
            if each.part.nodes:
                continue  # node processes record their own
            if (used := usage_of_family(each.process.pid)) is not None:
                self._write(Used([each.part.name], used, each.incarnation))

    def _sample_host(self) -> None:
        usage = self._host.sample()
        if usage is not None:
            self._write(HostUsed(msgspec.structs.replace(usage, watts=self._power.watts())))
