"""`edgebench run`: from a topology to a run directory with a verdict."""

from __future__ import annotations

import argparse
import contextlib
import os
import platform
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import psutil

from edgebench import tasks
from edgebench.clock import utc_now
from edgebench.errors import EdgebenchError
from edgebench.executors.local import LocalOptions, LocalRun
from edgebench.experiments.collect import COMMAND_SPOOL, collect
from edgebench.experiments.progress import RunProgress
from edgebench.experiments.report import report_command
from edgebench.experiments.rundir import TOPOLOGY, create_run_dir, write_atomically, write_deployment
from edgebench.fabric.endpoints import parse_broker_url
from edgebench.fabric.records import Opened, Spool, Troubled
from edgebench.topology import check, load, read_trace, refuse_unenforceable, resolve
from edgebench.topology.deployment import Deployment
from edgebench.topology.model import Broker, Topology, Trace

_FINISHED = b"finished\n"


def run_topology(args: argparse.Namespace, command_started_ns: int) -> int:
    """Run a topology. Exit status 0 for a valid run, 1 for an invalid one."""
    overrides = list(args.set)
    if args.seed is not None:
        overrides.append(f"seed={args.seed}")
    if args.duration_s is not None:
        overrides.append(f"duration_s={args.duration_s}")
    topology = load(args.file, overrides)
    check(topology, args.file, tasks=tasks.names())
    refuse_unenforceable(topology, args.file, executor=args.executor)
    data = _data_folder(args, topology)
    if args.broker is not None:
        parse_broker_url(args.broker)
        topology = msgspec.structs.replace(topology, broker=Broker(url=args.broker))
    out = Path(args.out)
    run_dir = create_run_dir(out, topology.name, utc_now()).resolve()
    deployment = resolve(
        topology, run_id=run_dir.name, executor=args.executor, data=None if data is None else str(data)
    )
    shutil.copyfile(args.file, run_dir / TOPOLOGY)
    write_deployment(run_dir, deployment)
    options = LocalOptions(
        run_dir=run_dir,
        registry_dir=Path(args.registry or out / "registry").resolve(),
        data=data,
        broker_url=topology.broker.url,
        traces=_traces(topology),
    )
    _execute(deployment, options, command_started_ns)
    return report_command(run_dir, args.json)


def _execute(deployment: Deployment, options: LocalOptions, command_started_ns: int) -> None:
    spool = Spool(options.run_dir / COMMAND_SPOOL)
    spool.write(Opened(command_started_ns, _host()))
    progress = RunProgress(deployment, options.run_dir)
    local = LocalRun(deployment, options, spool)
    with _undertaker(options.run_dir), progress, _interrupted_once():
        try:
            with local.running(progress.tell):
                _list_processes(options.run_dir, local)
                local.watch(progress.show)
        except KeyboardInterrupt as interrupt:
            spool.write(Troubled(f"interrupted by {interrupt}"))
        except EdgebenchError as error:
            spool.write(Troubled(str(error)))
        progress.tell("writing the report")
        spool.close()
        collect(options.run_dir)


@contextlib.contextmanager
def _undertaker(run_dir: Path) -> Iterator[None]:
    """A process that ends the run and writes its verdict should this one be killed."""
    process = subprocess.Popen(
        [sys.executable, "-m", "edgebench.experiments.undertaker", str(run_dir)],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        yield
    finally:
        if process.stdin is not None:
            with contextlib.suppress(BrokenPipeError):  # it was killed itself; then there is nothing to tell it
                process.stdin.write(_FINISHED)
                process.stdin.close()
        process.wait()


@contextlib.contextmanager
def _interrupted_once() -> Iterator[None]:
    """The first signal to end raises KeyboardInterrupt; later ones do not disturb the orderly end that it begins."""
    names = {signal.SIGINT: "Ctrl-C", signal.SIGTERM: "SIGTERM", signal.SIGHUP: "the end of the terminal"}

    def interrupt(number: int, _frame: object) -> None:
        for each in names:
            signal.signal(each, signal.SIG_IGN)
        raise KeyboardInterrupt(names[signal.Signals(number)])

    before = {each: signal.signal(each, interrupt) for each in names}
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


def _list_processes(run_dir: Path, local: LocalRun) -> None:
    lines = [f"{process.pid} {process.create_time()}" for process in local.processes]
    write_atomically(run_dir / "work" / "processes", "\n".join(lines).encode())


def _data_folder(args: argparse.Namespace, topology: Topology) -> Path | None:
    place, given = ("--data", args.data) if args.data is not None else (f"{args.file}: $.data", topology.data)
    if given is None:
        return None
    folder = Path(given).resolve()
    if not folder.is_dir():
        raise EdgebenchError(f"{place}: {given} is not a folder")
    return folder


def _traces(topology: Topology) -> dict[str, list[float]]:
    return {
        name: read_trace(Path(workload.load.file))
        for name, workload in topology.workloads.items()
        if isinstance(workload.load, Trace)
    }


def _host() -> dict[str, str | int | float]:
    memory = psutil.virtual_memory()
    return {
        "cores": os.cpu_count() or 1,
        "machine": platform.machine(),
        "memory_mb": round(memory.total / 1e6),
        "system": platform.system(),
        "release": platform.release(),
        "cpu": _cpu_model(),
    }


def _cpu_model() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass  # not Linux: what platform knows is the best there is
    return platform.processor()
