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
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

import msgspec
import psutil

from cloud.registry import Registry
from edgebench import tasks
from edgebench.clock import utc_now
from edgebench.errors import EdgebenchError, ModelError, TaskError
from edgebench.executors.local import LocalOptions, LocalRun
from edgebench.executors.open_files import allow_open_files
from edgebench.experiments.deployment_checks import check_deployment
from edgebench.experiments.progress import RunProgress
from edgebench.fabric.broker_probe import try_broker
from edgebench.fabric.endpoints import parse_broker_url
from edgebench.fabric.records import Invalidated, Observations, Opened, Spool
from edgebench.report.page import report_command, write_report
from edgebench.results.collect import COMMAND_SPOOL, collect
from edgebench.results.rundir import (
    FEDERATED,
    TOPOLOGY,
    create_run_dir,
    load_deployment,
    write_atomically,
    write_deployment,
)
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
    out = Path(args.out)
    registry_dir = Path(args.registry or out / "registry").resolve()
    _check_models(topology, args.file, registry_dir)
    if args.broker is not None:
        if topology.moves:
            raise EdgebenchError(
                f"{args.file}: $.moves: a site is where a broker is, and --broker is the same for all (leave it out)"
            )
        topology = msgspec.structs.replace(topology, broker=Broker(url=args.broker))
    if topology.broker.url is not None:
        _check_broker(topology, topology.broker.url)
    where = None if data is None else str(data)
    checked = resolve(topology, run_id="check", executor=args.executor, data=where)
    check_deployment(checked, args.file)
    allow_open_files(checked, args.file)
    if args.resume is not None:
        _check_resumable(checked, args.resume)
    run_dir = create_run_dir(out, topology.name, utc_now()).resolve()
    deployment = resolve(topology, run_id=run_dir.name, executor=args.executor, data=where)
    if args.resume is not None:
        shutil.copytree(args.resume / FEDERATED, run_dir / FEDERATED)
    shutil.copyfile(args.file, run_dir / TOPOLOGY)
    write_deployment(run_dir, deployment)
    options = LocalOptions(
        run_dir=run_dir,
        registry_dir=registry_dir,
        data=data,
        broker_url=topology.broker.url,
        traces=_traces(topology),
    )
    observations = _execute(deployment, options, command_started_ns)
    if observations.mistakes:
        write_report(run_dir)
        # The cloud knows the place in the topology, and not what its file is called here.
        placed = [f"{args.file}: {each}" if each.startswith("$.") else each for each in observations.mistakes]
        raise EdgebenchError("\n".join(placed))
    try:
        return report_command(run_dir, args.json)
    except TaskError as error:
        mend = f"the run is kept: mend the task, then edgebench report {run_dir}"
        raise TaskError(f"{error}; {mend}") from error


def _check_resumable(deployment: Deployment, earlier: Path) -> None:
    """The rounds of an earlier run can be gone on with if they were those of the same federations on the same data."""
    before = load_deployment(earlier)
    if not deployment.federated:
        raise EdgebenchError(f"--resume {earlier}: this topology has no federated rounds to go on with")
    if not (earlier / FEDERATED).is_dir():
        raise EdgebenchError(f"--resume {earlier}: not one federated round was held in it (run without --resume)")
    if before.seed != deployment.seed:
        raise EdgebenchError(f"--resume {earlier}: its seed is {before.seed}, not {deployment.seed} (give --seed)")
    if before.data != deployment.data:
        raise EdgebenchError(f"--resume {earlier}: its data was {before.data}, not {deployment.data} (give --data)")
    for name, plan in deployment.federated.items():
        if _what_is_learned(before, name, plan.how.rounds) != _what_is_learned(deployment, name, plan.how.rounds):
            raise EdgebenchError(
                f"--resume {earlier}: the federation of '{name}' was another one there "
                "(give the same topology; only the number of rounds may differ)"
            )


def _what_is_learned(deployment: Deployment, workload: str, rounds: int | None) -> tuple[object, ...] | None:
    plan, learned = deployment.federated.get(workload), deployment.workloads.get(workload)
    if plan is None or learned is None:
        return None
    how = msgspec.structs.replace(plan.how, rounds=rounds)
    return how, plan.clients, plan.edges, learned.task, learned.model, learned.train


def _execute(deployment: Deployment, options: LocalOptions, command_started_ns: int) -> Observations:
    spool = Spool(options.run_dir / COMMAND_SPOOL)
    spool.write(Opened(command_started_ns, _host()))
    progress = RunProgress(deployment, options.run_dir)
    local = LocalRun(deployment, options, spool)
    with _reaper(options.run_dir), progress, _interrupted_once() as no_longer_interrupted:
        try:
            with local.running(progress.tell):
                _list_processes(options.run_dir, local)
                local.watch(progress.show)
                no_longer_interrupted()
        except KeyboardInterrupt as interrupt:
            spool.write(Invalidated(f"interrupted by {interrupt}"))
        except EdgebenchError as error:
            spool.write(Invalidated(str(error)))
        progress.tell("writing the report")
        spool.close()
        return collect(options.run_dir)


@contextlib.contextmanager
def _reaper(run_dir: Path) -> Iterator[None]:
    """A process that ends the run and writes its verdict should this one be killed, or fail."""
    process = subprocess.Popen(
        [sys.executable, "-m", "edgebench.experiments.reaper", str(run_dir)],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        yield
        with contextlib.suppress(BrokenPipeError):  # it was killed itself; then there is nothing to tell it
            _stdin_of(process).write(_FINISHED)
            _stdin_of(process).flush()
    finally:
        with contextlib.suppress(BrokenPipeError):
            _stdin_of(process).close()
        process.wait()


def _stdin_of(process: subprocess.Popen[bytes]) -> IO[bytes]:
    if process.stdin is None:
        raise AssertionError("it is started with a pipe")
    return process.stdin


@contextlib.contextmanager
def _interrupted_once() -> Iterator[Callable[[], None]]:
    """The first signal to end raises KeyboardInterrupt; later ones do not disturb the orderly end that it begins.

    Gives a function that says that this end has begun by itself.
    """
    names = {signal.SIGINT: "Ctrl-C", signal.SIGTERM: "SIGTERM", signal.SIGHUP: "the end of the terminal"}

    def ignore() -> None:
        for each in names:
            signal.signal(each, signal.SIG_IGN)

    def interrupt(number: int, _frame: object) -> None:
        ignore()
        raise KeyboardInterrupt(names[signal.Signals(number)])

    before = {each: signal.signal(each, interrupt) for each in names}
    try:
        yield ignore
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


def _check_models(topology: Topology, file: str, registry_dir: Path) -> None:
    """Models that a topology names are looked up before anything starts."""
    for name, workload in topology.workloads.items():
        source = workload.model.source
        if source.startswith("sha256:"):
            try:
                Registry(registry_dir).open(source.removeprefix("sha256:"))
            except ModelError as error:
                raise EdgebenchError(f"{file}: $.workloads.{name}.model.source: {error} (see --registry)") from error


def _check_broker(topology: Topology, url: str) -> None:
    broker = parse_broker_url(url)
    if broker.tls and topology.links:
        raise EdgebenchError(
            f"{broker.shown}: TLS does not reach across emulated links, whose far end has another name "
            "(remove $.links, or use mqtt://)"
        )
    try_broker(broker)


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
