"""How busy others kept the machine while a benchmark timed something, and the refusal of what they disturbed.

A ratio says little when others take a part of the processor: the side that needs more of it suffers more. So each pair
is watched with the meter of `edgebench run`: the share of the processor that foreign processes and other guests of the
hardware took (everything but the benchmark and all below it), pressure (the share of the time in which anything waited
for a core), and the load average. Beyond `LIMIT` the benchmark ends with exit status 1 or, with `--anyway`, goes on
and says so.

Keys that it adds to the printed object:

disturbed: whether others took more than `LIMIT` of the processor during any pair.
watched: a list: `what`, `foreign`, `stolen`, `pressure` (shares; null where the system does not tell), `load`,
    `disturbed`.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from edgebench.clock import now_s, sleep_s
from edgebench.executors.host_meter import HostMeter
from edgebench.fabric.child_process import ChildProcess
from edgebench.fabric.records import HostUsage
from edgebench.results.host_conditions import mean_share

LIMIT = 0.05
"""Own and foreign work are told apart to some 3 % of the processor, and an idle machine has 1 or 2 % to do."""
SHARES = ("foreign", "stolen", "pressure")
_SAMPLE_S = 1.0
"""The kernel counts in ticks of 10 ms: a second is the least that can be told apart to a few per cent."""


def add_anyway(parser: argparse.ArgumentParser) -> None:
    """`--anyway`."""
    parser.add_argument("--anyway", action="store_true", help="go on where others disturb a pair, and mark it")


_SPIN = """
import contextlib, os, sys
with contextlib.suppress(OSError), open("/proc/self/autogroup", "w") as group:
    group.write("19")  # else a session of its own has as much of a processor as any other
os.sched_setaffinity(0, {int(sys.argv[1])})
os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
while True:
    pass
"""


@contextmanager
def awake() -> Iterator[None]:
    """Keep every processor from sleeping, by work that gives way to all other. Linux only: elsewhere nothing is done.

    A hypervisor lets a processor that has slept go on where there is room, which can be half as fast, for seconds. Not
    for what has to be punctual, or computes on all processors: beside ones that spin it was less steady, not more.
    """
    cores = sorted(os.sched_getaffinity(0)) if sys.platform == "linux" else []
    with contextlib.ExitStack() as stack:
        for core in cores:
            stack.callback(ChildProcess([sys.executable, "-I", "-S", "-c", _SPIN, str(core)]).end)
        yield


class Quiet:
    """What was watched."""

    def __init__(self, *, anyway: bool) -> None:
        self._anyway = anyway
        self._watched: list[dict[str, Any]] = []

    @contextmanager
    def during(self, what: str) -> Iterator[None]:
        """Watch a pair, for a second at least. Raises SystemExit where others disturbed it."""
        meter, over = HostMeter(lambda: [os.getpid()]), threading.Event()
        usage: list[HostUsage] = []

        def sample() -> None:
            while not over.wait(_SAMPLE_S):
                usage.extend(filter(None, [meter.sample()]))

        began_s = now_s()
        thread = threading.Thread(target=sample, name="quiet", daemon=True)
        thread.start()
        try:
            yield
            sleep_s(max(0.0, began_s + _SAMPLE_S - now_s()))
        finally:
            over.set()
            thread.join()
        usage.extend(filter(None, [meter.sample()]))
        self._judge(what, usage)

    def told(self) -> dict[str, Any]:
        """The keys for the printed object."""
        return {"disturbed": any(each["disturbed"] for each in self._watched), "watched": self._watched}

    def _judge(self, what: str, usage: list[HostUsage]) -> None:
        found = judged(what, usage)
        self._watched.append(found)
        shares = ", ".join(f"{name} {'?' if found[name] is None else f'{found[name]:.2f}'}" for name in SHARES)
        told = f"{shares}, load {found['load']}"
        if not found["disturbed"] or self._anyway:
            print(f"{what}: {told}{' (disturbed)' if found['disturbed'] else ''}", file=sys.stderr, flush=True)
            return
        raise SystemExit(
            f"{what}: others took {_taken(found):.0%} of the processor (limit {LIMIT:.0%}), so its figures would say "
            f"little; wait until the machine is quiet, or go on with --anyway ({told})"
        )


def judged(what: str, usage: Sequence[HostUsage]) -> dict[str, Any]:
    """An entry of `watched`. usage: of the machine, one after the other; not all as long."""
    shares = {name: _mean(usage, name) for name in SHARES}
    load = round(os.getloadavg()[0], 2)
    return {"what": what, **shares, "load": load, "disturbed": _taken(shares) > LIMIT}


def _taken(shares: Mapping[str, Any]) -> float:
    return (shares["foreign"] or 0.0) + (shares["stolen"] or 0.0)


def _mean(usage: Sequence[HostUsage], name: str) -> float | None:
    mean = mean_share(usage, [getattr(use, name) for use in usage])
    return None if mean is None else round(mean, 4)
