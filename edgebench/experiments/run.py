"""`edgebench run`: from a topology to a run directory with a verdict."""

from __future__ import annotations

import contextlib
import importlib.util
import math
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from edgebench import interruption
from edgebench.clock import now_ns, utc_now
from edgebench.errors import DataError, EdgebenchError, TaskError
from edgebench.executors import EXECUTORS
from edgebench.executors.execution import Execution, RunInputs
from edgebench.executors.fault_checks import check_faults
from edgebench.executors.faults import FaultDriver, FaultTimer, samples_due
from edgebench.executors.fleet import Fleet, FleetOptions
from edgebench.executors.open_files import allow_open_files
from edgebench.executors.plan import plan_of
from edgebench.executors.power_meter import meter_of
from edgebench.experiments.deployment_checks import checked_deployment
from edgebench.experiments.finishing import held
from edgebench.experiments.given import TopologyFile, keep_given
from edgebench.experiments.host import host_facts
from edgebench.experiments.model_checks import check_models
from edgebench.experiments.places import NoRoomError, check_folder, room_in
from edgebench.experiments.progress import RunProgress, Silent
from edgebench.experiments.sensor_checks import check_sensors
from edgebench.fabric.brokers.choice import choose
from edgebench.fabric.child_process import ChildProcess
from edgebench.fabric.endpoints import parse_broker_url
from edgebench.fabric.records import FaultAsked, Invalidated, Opened
from edgebench.fabric.sensors import SensorChoice, keep_sensors
from edgebench.fabric.slices import LiveState
from edgebench.fabric.spool import Spool
from edgebench.results.collect import COMMAND_SPOOL, WORK, collect
from edgebench.results.figures import Result
from edgebench.results.observations import Observations
from edgebench.results.rundir import (
    FEDERATED,
    OPTIONS,
    KeptOptions,
    create_run_dir,
    load_deployment,
    write_deployment,
    write_json,
)
from edgebench.topology import link_traces_of, profiles_of, read_trace, resolve
from edgebench.topology.deployment import SIMULATE, Deployment, as_placed
from edgebench.topology.model import Broker, Topology, Trace
from edgebench.topology.resolving import without_login

_AT_THE_END = ("jinja2", "plotly", "pyarrow", "rich")
"""Packages that a base install lacks, and that are imported only once there is something to write down or to show."""
_FINISHED = b"finished"
_INTERRUPTED = "interrupted by "


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """How to run a topology, which says the rest.

    out: where run directories go. data: a folder of real data, instead of the topology's. registry: of models
    (None: `out`/registry). broker: the URL of an external one. resume: a run directory whose federated rounds are gone
    on with. retrain: train first models anew, whatever is remembered. wait: for machines that serve another run.
    base_image: that containers are made on. tokens: where those of containers are laid that others start.
    sensors: that nodes read on this machine. meter: of its power, `module:attribute` (None: RAPL where there is any).
    progress: show on stderr how far the run is. asked_ns: when the user asked for it (None: now). heard: signals to end
    that came while the run went on, or ended, are noted there.
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
    meter: str | None = None
    progress: bool = False
    asked_ns: int | None = None
    heard: list[signal.Signals] = field(default_factory=list)


def run_topology(given: TopologyFile, options: RunOptions) -> tuple[Path, Result]:
    """Run a topology to its end; its run directory, and its figures with their verdict.

    Raises EdgebenchError for what a user has to mend first, and ModuleNotFoundError where a package is absent that its
    end will need.
    """
    for name in _AT_THE_END:
        if importlib.util.find_spec(name) is None:
            raise ModuleNotFoundError(f"no {name}: pip install 'edgebench[lab]'", name=name)
    with room_in(options.out, "make room, or name another folder with --out"):
        return _run(given, options)


def _run(given: TopologyFile, options: RunOptions) -> tuple[Path, Result]:
    asked_ns = now_ns() if options.asked_ns is None else options.asked_ns
    file = given.path
    topology = _with_options(given, options)
    check_folder("--out", options.out)
    _check_executors_options(options)
    checked = checked_deployment(topology, file, options.executor)
    meter = meter_of(options.meter)
    registry_dir = (options.registry or options.out / "registry").resolve()
    if options.registry is not None:
        check_folder("--registry", options.registry)
    check_models(checked, file, registry_dir)
    broker_url = options.broker or topology.broker.url
    if broker_url is not None:
        from edgebench.experiments.broker_check import check_broker

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
        write_json(run_dir / OPTIONS, _kept(options, registry_dir))
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
            meter=meter,
        )
        with _heard_again(options.heard):
            return run_dir, _reported(run_dir, file, _execute(inputs, fleet, asked_ns, progress, options.heard))


def run_whole(given: TopologyFile, options: RunOptions) -> tuple[Path, Result]:
    """As `run_topology`, one of several runs: raises KeyboardInterrupt after one that heard a signal to end."""
    found = run_topology(given, options)
    if options.heard or was_interrupted(found[1]):
        raise KeyboardInterrupt
    return found


def was_interrupted(result: Result) -> bool:
    """Whether a run was ended by a signal to end."""
    return any(reason.startswith(_INTERRUPTED) for reason in result.verdict.reasons)


def _kept(options: RunOptions, registry_dir: Path) -> KeptOptions:
    return KeptOptions(
        registry=str(registry_dir),
        retrain=options.retrain,
        resume=None if options.resume is None else str(options.resume.resolve()),
        base_image=options.base_image,
        sensors=[f"{each.place}={each.shown}" for each in options.sensors],
        tokens=options.tokens is not None,
        meter=options.meter,
    )


def _check_executors_options(options: RunOptions) -> None:
    """What only some of the executors have a use for. Raises EdgebenchError."""
    if options.executor == SIMULATE:
        raise EdgebenchError("--executor simulate: nothing runs in virtual time (use edgebench simulate)")
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
    with room_in(run_dir, f"the records are whole; make room, then edgebench report {run_dir}"):
        return _written(run_dir, file, observations)


def _written(run_dir: Path, file: str | Path, observations: Observations) -> Result:
    from edgebench.report.page import write_report  # whose templates are not needed before

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
    for name, plan in [*before.federated.items(), *deployment.federated.items()]:
        if not plan.how.keep_answers:
            mend = "(set keep_answers: true; an earlier run without it has to be run anew)"
            raise EdgebenchError(f"--resume {earlier}: no answers of '{name}' are kept {mend}")
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
    spool.write(Opened(asked_ns, host_facts()))
    plan = plan_of(deployment)
    kept = f"what was recorded is kept; make room, then edgebench report {run_dir}"
    with (
        _reaper(run_dir),
        held(run_dir),
        room_in(run_dir, kept),
        progress,
        _interrupted_once(heard) as no_longer_interrupted,
    ):
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
            spool.write(Invalidated(f"{_INTERRUPTED}{interrupt}"))
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
        try:
            yield
        except NoRoomError:  # there is none for a verdict either
            _tell_finished(process)
            raise
        _tell_finished(process)
    finally:
        process.hang_up()
        process.wait(math.inf)
        process.end()


def _tell_finished(reaper: ChildProcess) -> None:
    with contextlib.suppress(BrokenPipeError):  # it was killed itself; then there is nothing to tell it
        reaper.write_line(_FINISHED)


@contextlib.contextmanager
def _heard_again(heard: list[signal.Signals]) -> Iterator[None]:
    """Tell the program that called of a signal to end that the run has taken for itself, if it has a handler for that.

    heard: where such signals are noted. Of Ctrl-C nobody is told again: it was for the run.
    """
    try:
        yield
    finally:
        for number in dict.fromkeys(heard):
            if number != signal.SIGINT and callable(signal.getsignal(number)):
                signal.raise_signal(number)


@contextlib.contextmanager
def _interrupted_once(heard: list[signal.Signals]) -> Iterator[Callable[[], None]]:
    """The first signal to end raises KeyboardInterrupt, outside of sections that are whole (`interruption`); later ones
    do not disturb the orderly end that it begins.

    heard: where they are noted. Gives a function that says that this end has begun by itself. Signals are the main
    thread's: in any other, nothing is changed.
    """
    if threading.current_thread() is not threading.main_thread():
        yield lambda: None
        return
    names = {signal.SIGINT: "Ctrl-C", signal.SIGTERM: "SIGTERM", signal.SIGHUP: "the end of the terminal"}

    def note(number: int, _frame: object) -> None:
        heard.append(signal.Signals(number))

    def only_note() -> None:
        for each in names:
            signal.signal(each, note)

    def interrupt(number: int, frame: object) -> None:
        only_note()
        note(number, frame)
        interruption.interrupt(KeyboardInterrupt(names[heard[0]]))

    if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
        del names[signal.SIGHUP]  # by nohup: the run is to outlive its terminal
    before = {each: signal.signal(each, interrupt) for each in names}
    try:
        yield only_note
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
