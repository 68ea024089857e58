"""`edgebench run`: from a topology to a run directory with a verdict."""

from __future__ import annotations

import contextlib
import math
import os
import platform
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec
import psutil

from edgebench.clock import now_ns, utc_now
from edgebench.errors import DataError, EdgebenchError, TaskError
from edgebench.executors import EXECUTORS
from edgebench.executors.execution import Execution, RunInputs
from edgebench.executors.fault_checks import check_faults
from edgebench.executors.faults import FaultDriver, FaultTimer, samples_due
from edgebench.executors.fleet import Fleet, FleetOptions
from edgebench.executors.open_files import allow_open_files
from edgebench.executors.plan import plan_of
from edgebench.experiments.broker_check import check_broker
from edgebench.experiments.deployment_checks import checked_deployment
from edgebench.experiments.given import TopologyFile, keep_given
from edgebench.experiments.model_checks import check_models
from edgebench.experiments.places import check_folder
from edgebench.experiments.progress import RunProgress, Silent
from edgebench.experiments.sensor_checks import check_sensors
from edgebench.fabric.brokers.choice import choose
from edgebench.fabric.child_process import ChildProcess
from edgebench.fabric.endpoints import parse_broker_url
from edgebench.fabric.records import FaultAsked, Invalidated, Opened
from edgebench.fabric.sensors import SensorChoice, keep_sensors
from edgebench.fabric.slices import LiveState
from edgebench.fabric.spool import Spool
from edgebench.report.page import write_report
from edgebench.results.collect import COMMAND_SPOOL, WORK, collect
from edgebench.results.figures import Result
from edgebench.results.observations import Observations
from edgebench.results.rundir import FEDERATED, create_run_dir, load_deployment, write_deployment
from edgebench.topology import link_traces_of, profiles_of, read_trace, resolve
from edgebench.topology.deployment import Deployment, as_placed
from edgebench.topology.model import Broker, Topology, Trace
from edgebench.topology.resolving import without_login

_FINISHED = b"finished"


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """How to run a topology, which says the rest.

    out: where run directories go. data: a folder of real data, instead of the topology's. registry: of models
    (None: `out`/registry). broker: the URL of an external one. resume: a run directory whose federated rounds are gone
    on with. retrain: train first models anew, whatever is remembered. wait: for machines that serve another run.
    base_image: that containers are made on. tokens: where those of containers are laid that others start.
    sensors: that nodes read on this machine.
    progress: show on stderr how far the run is. asked_ns: when the user asked for it (None: now).
    """

    out: Path = Path("runs")
    executor: str = "local"
    data: Path | None = None
    registry: Path | None = None
    broker: str | None = None
    resume: Path | None = None
    retrain: bool = False
    wait: bool = False
    sensors: tuple[SensorChoice, ...] = ()
    base_image: str | None = None
    tokens: Path | None = None
    progress: bool = False
    asked_ns: int | None = None


def run_topology(given: TopologyFile, options: RunOptions) -> tuple[Path, Result]:
    """Run a topology to its end; its run directory, and its figures with their verdict.

    Raises EdgebenchError for what a user has to mend first.
    """
    asked_ns = now_ns() if options.asked_ns is None else options.asked_ns
    file = given.path
    topology = _with_options(given, options)
    check_folder("--out", options.out)
    _check_executors_options(options)
    checked = checked_deployment(topology, file, options.executor)
    registry_dir = (options.registry or options.out / "registry").resolve()
    if options.registry is not None:
        check_folder("--registry", options.registry)
    check_models(checked, file, registry_dir)
    broker_url = options.broker or topology.broker.url
    if broker_url is not None:
        check_broker(checked, broker_url)
    else:
        choose(checked.broker_kind)
    if options.resume is not None:
        _check_resumable(checked, options.resume)
    with EXECUTORS[options.executor](FleetOptions(options.wait, options.base_image, options.tokens)) as fleet:
        placed = fleet.place(checked, file)
        check_sensors(placed, options.sensors)
        check_faults(placed, file)
        allow_open_files(placed, file)
        run_dir = create_run_dir(options.out, topology.name, utc_now()).resolve()
        kept = keep_given(run_dir, given, topology)
        link_traces = link_traces_of(kept, run_dir)
        deployment = resolve(
            kept,
            run_id=run_dir.name,
            executor=options.executor,
            data=topology.data,
            profiles=profiles_of(kept, run_dir),
            traces=link_traces,
        )
        deployment = as_placed(deployment, placed)
        progress = RunProgress(deployment, run_dir) if options.progress else Silent()
        try:
            fleet.hold(deployment, progress.tell)
        except BaseException:
            shutil.rmtree(run_dir)  # nothing has been run
            raise
        if options.resume is not None:
            shutil.copytree(options.resume / FEDERATED, run_dir / FEDERATED)
        write_deployment(run_dir, deployment)
        inputs = RunInputs(
            deployment=deployment,
            run_dir=run_dir,
            registry_dir=registry_dir,
            data=None if topology.data is None else Path(topology.data),
            broker_url=broker_url,
            traces=_traces(kept, run_dir),
            link_traces=link_traces,
            retrain=options.retrain,
            sensors=_kept_sensors(options.sensors, run_dir),
        )
        with _heard_again() as heard:
            return run_dir, _reported(run_dir, file, _execute(inputs, fleet, asked_ns, progress, heard))


def _check_executors_options(options: RunOptions) -> None:
    """What only some of the executors have a use for. Raises EdgebenchError."""
    if options.wait and options.executor == "local":
        raise EdgebenchError("--wait: the machine of the local executor serves any number of runs (leave it out)")
    if options.wait and options.executor == "containers":
        raise EdgebenchError("--wait: each run has containers of its own (leave it out)")
    if options.base_image is not None and options.executor != "containers":
        raise EdgebenchError("--base-image: is for containers (leave it out, or add --executor containers)")
    if options.tokens is not None:
        if options.executor != "containers":
            raise EdgebenchError("--tokens: is for containers (leave it out, or add --executor containers)")
        if options.base_image is not None:
            raise EdgebenchError("--base-image: containers that others start are made already (leave it out)")
    if options.sensors and options.executor == "containers":
        raise EdgebenchError("--sensor: a container sees no gear of this computer (use another executor)")


def _reported(run_dir: Path, file: str | Path, observations: Observations) -> Result:
    """Write the report. Raises DataError for what the user has to mend, as the run found it."""
    if observations.mistakes:
        write_report(run_dir)
        # The cloud knows the place in the topology, and not what its file is called here.
        placed = [f"{file}: {each}" if each.startswith("$.") else each for each in observations.mistakes]
        raise DataError("\n".join(placed))
    try:
        return write_report(run_dir)
    except TaskError as error:
        mend = f"the run is kept: mend the task, then edgebench report {run_dir}"
        raise TaskError(f"{error}; {mend}") from error


def _with_options(given: TopologyFile, options: RunOptions) -> Topology:
    """The topology with the data and the broker (without its login) that are to be; the data's folder is there."""
    topology, file = given.topology, given.path
    place, data = ("--data", options.data) if options.data is not None else (f"{file}: $.data", topology.data)
    if data is not None:
        folder = Path(data).resolve()
        if not folder.is_dir():
            raise DataError(f"{place}: {data} is not a folder")
        topology = msgspec.structs.replace(topology, data=str(folder))
    if options.broker is not None:
        if topology.moves:
            raise EdgebenchError(
                f"{file}: $.moves: a site is where a broker is, and --broker is the same for all (leave it out)"
            )
        topology = msgspec.structs.replace(
            topology, broker=Broker(url=without_login(parse_broker_url(options.broker).url))
        )
    return topology


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


def _execute(
    inputs: RunInputs, fleet: Fleet, asked_ns: int, progress: RunProgress | Silent, heard: list[signal.Signals]
) -> Observations:
    run_dir, deployment = inputs.run_dir, inputs.deployment
    spool = Spool(run_dir / COMMAND_SPOOL)
    spool.write(Opened(asked_ns, _host()))
    plan = plan_of(deployment)
    with _reaper(run_dir), progress, _interrupted_once(heard) as no_longer_interrupted:
        try:
            with fleet.open(inputs, spool) as (machines, network):
                execution = Execution(plan, machines, inputs, spool, progress.tell, network)
                driver = FaultDriver(
                    plan.faults,
                    execution.inject,
                    lambda number, seen_ns: spool.write(FaultAsked(number, seen_ns)),
                    samples_due(deployment, inputs.traces),
                )
                with FaultTimer(driver) as faults:

                    def on_live(live: LiveState) -> None:
                        progress.show(live)
                        faults.see(live)

                    try:
                        execution.start()
                        execution.watch(on_live, faults.begin)
                    finally:
                        no_longer_interrupted()
                        faults.end()
                        execution.stop()
        except KeyboardInterrupt as interrupt:
            spool.write(Invalidated(f"interrupted by {interrupt}"))
        except EdgebenchError as error:
            spool.write(Invalidated(str(error)))
        progress.tell("writing the report")
        spool.close()
        return collect(run_dir)


@contextlib.contextmanager
def _reaper(run_dir: Path) -> Iterator[None]:
    """A process that ends the run and writes its verdict should this one be killed, or fail."""
    process = ChildProcess(
        [sys.executable, "-m", "edgebench.experiments.reaper", str(run_dir)],
        lifeline=True,
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
    )
    try:
        yield
        with contextlib.suppress(BrokenPipeError):  # it was killed itself; then there is nothing to tell it
            process.write_line(_FINISHED)
    finally:
        process.hang_up()
        process.wait(math.inf)
        process.end()


@contextlib.contextmanager
def _heard_again() -> Iterator[list[signal.Signals]]:
    """Tell the program that called of a signal to end that the run has taken for itself, if it has a handler for that.

    Gives where such signals are noted. Of Ctrl-C nobody is told again: it was for the run.
    """
    heard: list[signal.Signals] = []
    try:
        yield heard
    finally:
        for number in heard:
            if number != signal.SIGINT and callable(signal.getsignal(number)):
                signal.raise_signal(number)


@contextlib.contextmanager
def _interrupted_once(heard: list[signal.Signals]) -> Iterator[Callable[[], None]]:
    """The first signal to end raises KeyboardInterrupt; later ones do not disturb the orderly end that it begins.

    heard: where the first is noted. Gives a function that says that this end has begun by itself. Signals are the main
    thread's: in any other, nothing is changed.
    """
    if threading.current_thread() is not threading.main_thread():
        yield lambda: None
        return
    names = {signal.SIGINT: "Ctrl-C", signal.SIGTERM: "SIGTERM", signal.SIGHUP: "the end of the terminal"}

    def ignore() -> None:
        for each in names:
            signal.signal(each, signal.SIG_IGN)

    def interrupt(number: int, _frame: object) -> None:
        ignore()
        heard.append(signal.Signals(number))
        raise KeyboardInterrupt(names[heard[0]])

    if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
        del names[signal.SIGHUP]  # by nohup: the run is to outlive its terminal
    before = {each: signal.signal(each, interrupt) for each in names}
    try:
        yield ignore
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


def _kept_sensors(choices: tuple[SensorChoice, ...], run_dir: Path) -> Path | None:
    """A file that is there as long as the run."""
    if not choices:
        return None
    (run_dir / WORK).mkdir(exist_ok=True)
    keep_sensors(run_dir / WORK / "sensors.json", choices)
    return run_dir / WORK / "sensors.json"


def _traces(kept: Topology, run_dir: Path) -> dict[str, list[float]]:
    return {
        name: read_trace(run_dir / workload.load.file)
        for name, workload in kept.workloads.items()
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
        for line in Path("/proc/cpuinfo").read_text("utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass  # not Linux: what platform knows is the best there is
    return platform.processor()
