"""What a lab's server takes to have machines: its processor, its memory, and how well it knows their clocks.

    python benchmarks/lab.py [--json] [--quick] [--anyway]

One `edgebench lab serve` on loopback, and more and more `edgebench join` beside it that serve no run, all on this
computer: each asks for orders, and compares its clock twice a second. `--quick` does next to nothing, to see that it
runs; its figures mean little.

Keys of the printed object:

joined: a list, by how many have joined: `machines`, `server_cores`, `server_mb`, `machine_cores` and `machine_mb` (the
    mean of one), `clock_bound_us` (how far off the worst known machine's clock can be), `list_ms` (to be told of all
    machines: median).
disturbed, watched: see `quiet.py`, which refuses a disturbed pair unless `--anyway` is given.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import psutil

from benchmarks.quiet import Quiet, add_anyway
from edgebench.clock import now_s, sleep_s
from edgebench.lab.operator import LabClient
from edgebench.lab.serving import find

_WITHIN_S = 300.0
_LOOK_S = 0.2
_LISTS = 20
_Found = TypeVar("_Found")


class Size(NamedTuple):
    """machines: how many there are at each step. settle_s: before each is measured, for measure_s."""

    machines: tuple[int, ...]
    settle_s: float
    measure_s: float


FULL, QUICK = Size((10, 25, 50), 10.0, 30.0), Size((2,), 1.0, 1.0)


def measured(size: Size, quiet: Quiet) -> dict[str, Any]:
    """Step by step."""
    with tempfile.TemporaryDirectory(prefix="edgebench-lab-") as directory, contextlib.ExitStack() as stack:
        homes = Path(directory)
        os.environ["EDGEBENCH_HOME"] = str(homes / "server")
        server = stack.enter_context(_command(homes / "server", "lab", "serve", "--listen", "127.0.0.1:0"))
        client = stack.enter_context(contextlib.closing(_awaited(find)))
        machines: list[psutil.Process] = []
        joined = []
        for number in size.machines:
            for index in range(len(machines), number):
                words = [*client.invite().join.split()[1:], "--name", f"board-{index}"]
                machines.append(stack.enter_context(_command(homes / f"board-{index}", *words)))
            _awaited(partial(_all_compared, client, number))
            sleep_s(size.settle_s)
            with quiet.during(f"{number} machines"):
                joined.append({"machines": number, **_taken(server, machines, client, size.measure_s)})
        return {"joined": joined, **quiet.told()}


def _taken(server: psutil.Process, machines: list[psutil.Process], client: LabClient, for_s: float) -> dict[str, float]:
    before_s = [_cpu_s(each) for each in (server, *machines)]
    began_s = now_s()
    sleep_s(for_s)
    lasted_s = now_s() - began_s
    cores = [(_cpu_s(each) - spent_s) / lasted_s for each, spent_s in zip((server, *machines), before_s, strict=True)]
    lists_s = []
    for _ in range(_LISTS):
        asked_s = now_s()
        client.machines()
        lists_s.append(now_s() - asked_s)
    return {
        "server_cores": round(cores[0], 3),
        "server_mb": round(server.memory_info().rss / 1e6, 1),
        "machine_cores": round(statistics.fmean(cores[1:]), 4),
        "machine_mb": round(statistics.fmean(each.memory_info().rss for each in machines) / 1e6, 1),
        "clock_bound_us": round(max(_clocks(client)) / 1e3),
        "list_ms": round(1e3 * statistics.median(lists_s), 1),
    }


def _cpu_s(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def _clocks(client: LabClient) -> list[int]:
    """How far off each clock that is known can be, ns."""
    return [each.offset.bound_ns for each in client.machines() if each.present and each.offset is not None]


def _all_compared(client: LabClient, number: int) -> bool:
    return len(_clocks(client)) == number


@contextlib.contextmanager
def _command(home: Path, *words: str) -> Iterator[psutil.Process]:
    """`edgebench …` as a process, to its end."""
    process = psutil.Popen(
        [sys.executable, "-m", "edgebench.cli", *words],
        env={**os.environ, "EDGEBENCH_HOME": str(home)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield process
    finally:
        process.terminate()
        process.wait()


def _awaited(what: Callable[[], _Found | None]) -> _Found:
    until_s = now_s() + _WITHIN_S
    while not (found := what()):
        if now_s() > until_s:
            raise SystemExit(f"the lab is not complete after {_WITHIN_S:.0f} s")
        sleep_s(_LOOK_S)
    return found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="What a lab's server takes; see the top of this file.")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--quick", action="store_true", help="next to nothing, to see that it runs")
    add_anyway(parser)
    args = parser.parse_args()
    figures = measured(QUICK if args.quick else FULL, Quiet(anyway=args.anyway))
    if args.json:
        print(json.dumps(figures, indent=2))
        return
    for step in figures["joined"]:
        print("  ".join(f"{key} {value:,}" for key, value in step.items()))
    print(f"disturbed {json.dumps(figures['disturbed'])}")


if __name__ == "__main__":
    main()
