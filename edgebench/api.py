"""What a program or a notebook uses: a run is a function. `import edgebench` offers all of it.

run = edgebench.run(edgebench.load("icu-ward", ["duration_s=10"]))
if run.verdict.valid:
    print(run.figures.workloads["death-risk"].latency_ms)

Raises EdgebenchError, in a line that names the mend, for what a user has to mend first; a run that took place comes
back whatever its verdict.
"""

from __future__ import annotations

import contextlib
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from edgebench.errors import EdgebenchError
from edgebench.experiments import given
from edgebench.experiments.given import TopologyFile
from edgebench.experiments.places import check_file, room_in
from edgebench.fabric.listening import PORTS
from edgebench.fabric.sensors import check_can_be_read, parse_sensor
from edgebench.results import rundir
from edgebench.results.figures import Result, Verdict
from edgebench.tasks.task import Size
from edgebench.topology.deployment import Deployment

if TYPE_CHECKING:
    import pyarrow as pa

    from edgebench.containers.cleaning import Cleaned
    from edgebench.experiments.exporting import ExportTarget
    from edgebench.experiments.fidelity import Fidelity
    from edgebench.experiments.listing import TaskListed
    from edgebench.experiments.train import TrainResult
    from edgebench.lab.messages import DeviceCredential, Invited, MachineInfo, Role
    from edgebench.lab.operator import LabClient
    from edgebench.placement.placed import Placement
    from edgebench.placement.stream_placed import StreamPlacement
    from edgebench.results.capacities import By, Capacity
    from edgebench.results.comparison.figures import Comparison
    from edgebench.results.fronts import Swept
    from edgebench.topology.profiles import Profile

__all__ = [
    "Replayed",
    "Run",
    "TopologyFile",
    "capacity",
    "clean",
    "compare",
    "export",
    "fidelity",
    "init",
    "join",
    "lab_invite",
    "lab_invite_device",
    "lab_list",
    "lab_refusals",
    "lab_remove",
    "lab_serve",
    "list_tasks",
    "list_topologies",
    "load",
    "load_placement",
    "load_run",
    "place",
    "profile",
    "replay",
    "run",
    "schema",
    "simulate",
    "sweep",
    "train",
    "validate",
]

_AGAIN = "and give the command again"
_ELSEWHERE = "nothing of it is kept; make room, or name another folder with --out"

# What needs the lab's packages is imported where it is used: `load` and `validate` do without.


@dataclass(frozen=True)
class Run:
    """A run that has ended. figures: what `result.json` holds; folder: its run directory."""

    folder: Path
    figures: Result

    @property
    def verdict(self) -> Verdict:
        """Whether the figures may be trusted, and what speaks against it."""
        return self.figures.verdict

    @cached_property
    def records(self) -> pa.Table:
        """A row a sample, with the columns that docs/results.md names: times in ns, int64. Read when first asked for.

        Raises EdgebenchError where the file is absent or damaged.
        """
        return rundir.read_records(self.folder)

    @property
    def report(self) -> Path:
        """`report.html`, a page that stands alone."""
        return self.folder / rundir.REPORT


@dataclass(frozen=True)
class Replayed:
    """A run that was run again, and what the two differ in: A is the one that was, B that which is new."""

    run: Run
    comparison: Comparison


def schema() -> dict[str, Any]:
    """The JSON Schema of topology files, for editors."""
    from edgebench.topology import json_schema

    return json_schema()


def list_topologies() -> dict[str, str]:
    """The topologies that ship, by name, and what each shows: `load` and `init` take these names."""
    from edgebench.topology.shipped import about, shipped

    return {name: about(file) for name, file in shipped().items()}


def list_tasks(*, data: str | Path | None = None) -> list[TaskListed]:
    """The built-in tasks: their models, and the data that they can be learned from.

    data: a folder in which their data sets are looked for. Raises EdgebenchError.
    """
    from edgebench.experiments.listing import built_in_tasks

    return built_in_tasks(_path(data))


def init(name: str, *, out: str | Path = ".") -> Path:
    """Copy a topology that ships, to change it; the new file.

    out: a folder, or the file. Raises EdgebenchError, also where it is there already.
    """
    from edgebench.topology.shipped import shipped_file

    source, place = shipped_file(name), Path(out)
    target = place / source.name if place.is_dir() else place
    check_file("--out", target)
    try:
        with target.open("xb") as file:
            file.write(source.read_bytes())
    except FileExistsError:
        raise EdgebenchError(f"{target}: is there already (name another with --out)") from None
    except OSError:
        target.unlink(missing_ok=True)
        raise
    return target


def load(path: str | Path, overrides: Sequence[str] = (), *, placement: str | Path | None = None) -> TopologyFile:
    """Read a topology: a file, one that ships by its name, or an earlier run's by its run directory.

    overrides: `PATH=VALUE`, such as `links[0].latency_ms=5`, in the order in which they are applied. placement: the
    file of one that `place` has made: samples are decided where it says, whatever the topology says; or `online`: edges
    move workloads to the cloud and back while a run goes on. Only its shape is checked; see `validate`. Raises
    EdgebenchError.
    """
    opened = given.open_topology(path, overrides)
    if placement is None:
        return opened
    from edgebench.experiments.placements import with_placement

    return with_placement(opened, placement)


def validate(topology: TopologyFile | str | Path, *, executor: str = "local") -> Deployment:
    """Check a topology as a whole, as `run` does before anything starts; what it resolves to.

    Raises TopologyError with a line for each mistake.
    """
    from edgebench.experiments.deployment_checks import checked_deployment

    file = _loaded(topology)
    return checked_deployment(file.topology, file.path, executor)


def run(
    topology: TopologyFile | str | Path,
    *,
    out: str | Path = "runs",
    executor: str = "local",
    data: str | Path | None = None,
    registry: str | Path | None = None,
    broker: str | None = None,
    resume: str | Path | None = None,
    retrain: bool = False,
    wait: bool = False,
    sensors: Sequence[str] = (),
    base_image: str | None = None,
    tokens: str | Path | None = None,
    meter: str | None = None,
    progress: bool = False,
    asked_ns: int | None = None,
) -> Run:
    """Run a topology to its end, in any thread; the run comes back whether it is valid or not.

    out: where run directories go. data: a folder of real data, instead of the topology's. registry: of models (None:
    `out`/registry). broker: the URL of an external one. resume: a run directory whose federated rounds are gone on
    with. retrain: train first models anew, whatever is remembered. wait: for machines of a lab that serve another run.
    sensors: what nodes read on this machine, `NODE[/WORKLOAD]=SENSOR` (docs/sensors.md), instead of the task's data.
    base_image: that containers are made on (None: Python's slim one, or a Debian that is made here).
    tokens: a folder where each container finds its token, all of which others start (None: they are made here).
    meter: of this machine's power, module:attribute (None: the processor's own, where it may be read).
    progress: show on stderr how far it is. asked_ns: by `edgebench.clock`, when it was asked for (None: now).

    In the main thread a first Ctrl-C, SIGTERM or SIGHUP ends the run in good order, as an invalid one; then the two
    latter are raised again for the program's own handler. Raises EdgebenchError.
    """
    from edgebench.experiments.run import RunOptions, run_topology

    options = RunOptions(
        out=Path(out),
        executor=executor,
        data=_path(data),
        registry=_path(registry),
        broker=broker,
        resume=_path(resume),
        retrain=retrain,
        wait=wait,
        sensors=tuple(parse_sensor(each, Path()) for each in sensors),
        base_image=base_image,
        tokens=_path(tokens),
        meter=meter,
        progress=progress,
        asked_ns=asked_ns,
    )
    return Run(*run_topology(_loaded(topology), options))


def simulate(
    topology: TopologyFile | str | Path, *, calibrate: Sequence[str | Path] = (), out: str | Path = "runs"
) -> Run:
    """Simulate a topology in virtual time; what comes back is as of a run, and all its figures are modelled.

    calibrate: run directories from whose records it is taken what things take; what none of them holds is taken from
    the profiles of nodes, and what these do not hold is an error. out: where run directories go. Raises EdgebenchError.
    """
    from edgebench.experiments.simulate import SimulateOptions, simulate_topology

    options = SimulateOptions(calibrate=tuple(map(Path, calibrate)), out=Path(out))
    with room_in(options.out, _ELSEWHERE):
        return Run(*simulate_topology(_loaded(topology), options))


def fidelity(runs: Sequence[str | Path], *, calibrate: Sequence[str | Path] = ()) -> Fidelity:
    """How far simulations are from runs that took place: each is predicted, and held against what was measured.

    calibrate: the runs that say what things take; none: of each run, all the others. Raises EdgebenchError.
    """
    from edgebench.experiments import fidelity as comparing

    with room_in(None, f"make room, {_AGAIN}"):
        return comparing.fidelity(list(map(Path, runs)), list(map(Path, calibrate)))


def capacity(
    topology: TopologyFile | str | Path,
    workload: str | None = None,
    *,
    p99_ms: float | None = None,
    by: By = "devices",
    seeds: int = 3,
    within_percent: float = 2.0,
    most: float | None = None,
    executor: str = "simulate",
    calibrate: Sequence[str | Path] = (),
    out: str | Path = "capacities",
    resume: str | Path | None = None,
    progress: bool = False,
) -> Capacity:
    """The largest load at which a workload's p99 keeps a bound and nothing is lost, by search (docs/capacity.md).

    workload: None where there is one only. p99_ms: None for its deadline. by: the number of its devices, or the rate of
    each. seeds: so many, from the topology's own on. within_percent: how near the next step up is to be. most: the
    largest load that is tried. executor: of the runs. calibrate: runs that say what things take, for simulations (none:
    two or three short real ones are made first, where profiles do not say it all). out: where the folder of all runs
    goes. resume: that folder, of a search that was ended, to go on with. progress: say on stderr what came of each
    load.
    Raises EdgebenchError.
    """
    from edgebench.experiments.capacity import CapacityOptions, capacity_of

    options = CapacityOptions(
        workload=workload,
        p99_ms=p99_ms,
        by=by,
        seeds=seeds,
        within_percent=within_percent,
        most=most,
        executor=executor,
        calibrate=tuple(map(Path, calibrate)),
        out=Path(out),
        resume=_path(resume),
        tell=_say if progress else lambda _: None,
    )
    return capacity_of(_loaded(topology), options)


def load_run(folder: str | Path, *, rebuild: bool = False) -> Run:
    """A run by its run directory. rebuild: compute its figures and write its report anew, from its records; of one that
    was cut off, say by a full disk, they are collected first.

    Raises EdgebenchError where it is none, or goes on.
    """
    path = Path(folder)
    if rebuild:
        from edgebench.experiments.finishing import finish
        from edgebench.report.page import write_report

        with room_in(path, f"make room, {_AGAIN}"):
            finish(path, "the command edgebench ended before it had collected what was recorded")
            return Run(path, write_report(path))
    rundir.load_deployment(path)
    return Run(path, rundir.read_result(path))


def place(
    topology: TopologyFile | str | Path,
    policy: str | None = None,
    *,
    placement: str | Path | None = None,
    limit_s: float | None = None,
    objective: Sequence[str] = (),
    at_most: Sequence[str] = (),
    calibrate: Sequence[str | Path] = (),
    by: Literal["group", "site"] | None = None,
    out: str | Path | None = None,
    progress: bool = False,
) -> Placement | StreamPlacement:
    """Place the jobs of a topology, or the stages of its workloads, by a policy, or as an earlier placement has them
    (docs/placement.md).

    policy: a built-in one's name, or module:function. placement: the file of an earlier one, instead. limit_s: how long
    `exact` seeks at most (None: 60 s). out: write the placement here. For workloads: objective: what is to be small,
    `TERM` or `TERM=WEIGHT` (none: mean-ms); at_most: limits, `TERM=NUMBER`; calibrate: run directories from whose
    records it is taken what things take; by: what is placed alike, all devices of a `group` (None) or those of it at
    one `site`; progress: say on stderr what is simulated. Raises EdgebenchError.
    """
    from edgebench.experiments.place import PlaceOptions
    from edgebench.experiments.place import place as placed

    options = PlaceOptions(
        policy=policy,
        placement=_path(placement),
        limit_s=limit_s,
        out=_path(out),
        objective=tuple(objective),
        at_most=tuple(at_most),
        calibrate=tuple(map(Path, calibrate)),
        by=by,
        tell=_say if progress else lambda _: None,
    )
    with room_in(options.out, f"what is written of it is not whole; make room, {_AGAIN}"):
        return placed(_loaded(topology), options)


def load_placement(file: str | Path) -> Placement | StreamPlacement:
    """A placement by the file that `place` wrote. Raises EdgebenchError where it is none."""
    from edgebench.placement.files import read_placement

    return read_placement(Path(file))


def compare(runs: Sequence[str | Path]) -> Comparison:
    """What runs differ in, by their run directories: topology, versions, host, and every figure with an interval of the
    difference (docs/comparing.md).

    Raises EdgebenchError where one of them is no run, or was cut off.
    """
    from edgebench.results.comparison.compare import compare as compared

    return compared([Path(each) for each in runs])


def replay(folder: str | Path, *, out: str | Path | None = None, progress: bool = False) -> Replayed:
    """Run again what a run was, from its run directory alone.

    out: where the new run directory goes (None: beside the other). progress: show on stderr how far it is. Raises
    EdgebenchError with a line for each thing that the run needed, and that is not where it was.
    """
    from edgebench.experiments.replay import replay as replayed

    run_dir, result, comparison = replayed(Path(folder), _path(out), progress=progress)
    return Replayed(Run(run_dir, result), comparison)


def sweep(
    spec: str | Path,
    *,
    out: str | Path = "sweeps",
    resume: bool = False,
    processes: int | None = None,
    progress: bool = False,
) -> Swept:
    """Run every cell of a sweep that has not been run, and write the table (docs/sweeping.md).

    out: where folders of sweeps go. resume: go on with one that was ended. processes: so many simulated cells at a time
    (None: as many as there are cores, and memory for). progress: say on stderr which cell it is at. Raises
    EdgebenchError, and KeyboardInterrupt where a cell was interrupted.
    """
    from edgebench.experiments.sweep import sweep as swept

    with room_in(Path(out), f"the cells that were run are kept; make room, {_AGAIN} with --resume", over=True):
        return swept(
            Path(spec), Path(out), resume=resume, processes=processes, tell=_say if progress else lambda _: None
        )


def train(
    task: str,
    *,
    data: str | Path | None = None,
    size: Size | None = None,
    seeds: int = 3,
    out: str | Path | None = None,
    registry: str | Path | None = None,
    progress: bool = False,
) -> TrainResult:
    """Train a task's models, score them beside a classical baseline, export them; the figures.

    task: a built-in one's name, or module:attribute. data: the data set's folder (None: generated data). size: this one
    only (None: light and heavy). out: write the model (the light one of several) here, and its description beside it.
    registry: put each size's model into this one. progress: show on stderr what is being done. Raises EdgebenchError.
    """
    from edgebench.experiments import train as training

    options = training.TrainOptions(
        data=_path(data), size=size, seeds=seeds, out=_path(out), registry=_path(registry), progress=progress
    )
    with room_in(options.out or options.registry, f"what is written of it is not whole; make room, {_AGAIN}"):
        return training.train(task, options)


def export(
    target: ExportTarget,
    topology: TopologyFile | str | Path,
    *,
    out: str | Path,
    base_image: str | None = None,
    progress: bool = False,
) -> None:
    """Write a folder that runs a topology by itself, by `docker compose up` or on Kubernetes (docs/containers.md).

    out: the folder, which is not there yet. base_image: what its images are made on (None: Python's slim one).
    progress: show on stderr what is being done. Raises EdgebenchError.
    """
    from edgebench.experiments.exporting import export_topology

    with room_in(Path(out), _ELSEWHERE):
        export_topology(target, _loaded(topology), Path(out), base_image, _say if progress else lambda _: None)


def profile(
    *,
    tasks: Sequence[str] = (),
    sizes: Sequence[Size] = (),
    formats: Sequence[str] = (),
    max_batch: int | None = None,
    train_batches: Sequence[int] = (),
    message_bytes: Sequence[int] = (),
    quick: bool = False,
    machine: str | None = None,
    models: str | Path | None = None,
    name: str | None = None,
    out: str | Path | None = None,
    keep: bool = False,
    meter: str | None = None,
    progress: bool = False,
) -> Profile:
    """Measure how long a node's work takes on a machine; the profile, by which nodes elsewhere are emulated.

    tasks: built-in ones' names, or module:attribute (none: all built-in ones). sizes, formats: of their models (none:
    light and heavy, in every number format; light and float32 with quick). max_batch: of their batches no larger ones
    (None: those of their files). train_batches: samples of training steps (none: 32). message_bytes: of messages,
    besides those up to 64 kB, or to the largest sample of the tasks. quick: in a minute or two instead of some ten.
    machine: of this computer's lab (None: this computer). models: the folder of the models to measure with, which is
    completed where TensorFlow is (None: in the cache). name: of the machine (None: its host name, or the lab's). out:
    write the profile here. keep: where there is no `out`, keep it in the user's data folder, where a topology finds it
    by its name; no program does so unasked. meter: of its power, module:attribute there (None: the processor's own).
    progress: say on stderr what is being measured. Raises EdgebenchError.
    """
    from edgebench.experiments.profiling.measuring import ProfileOptions, profile_machine

    options = ProfileOptions(
        tasks=tuple(tasks),
        sizes=tuple(sizes),
        formats=tuple(formats),
        max_batch=max_batch,
        train_batches=tuple(train_batches),
        message_bytes=tuple(message_bytes),
        quick=quick,
        models=_path(models),
        name=name,
        out=_path(out),
        keep=keep,
        meter=meter,
        tell=_say if progress else lambda _: None,
    )
    with room_in(options.out, f"what was measured is not kept; make room, {_AGAIN}"):
        if machine is not None:
            from edgebench.experiments.profiling.elsewhere import profile_of_machine

            return profile_of_machine(machine, options)
        return profile_machine(options)


def clean(*, images: bool = False) -> Cleaned:
    """Remove what runs in containers have left behind whose command is gone, and say what that was.

    images: those of ours, too, which are kept for the next run else. Raises EdgebenchError.
    """
    from edgebench.containers import cleaning
    from edgebench.containers.engine import engine

    with engine() as found:
        return cleaning.clean(found, images=images)


def lab_serve(*, listen: str | None = None, install: bool = False) -> None:
    """Serve this computer's lab until SIGINT or SIGTERM; says on stderr where.

    listen: HOST:PORT (None: where it listened before, at first all addresses and port 46900). install: have systemd do
    so, and return. Raises EdgebenchError.
    """
    from edgebench.experiments import labs

    labs.serve_lab(listen, install=install, tell=_say)


def lab_invite(role: Role = "any", *, for_s: float = 900.0) -> Invited:
    """Lines to paste at a board, which install the lab's code there and let it in; the token in them serves once.

    role: the only tier that it takes part as. The lab must be served. Raises EdgebenchError.
    """
    with _lab() as lab:
        return lab.invite(role, for_s)


def lab_invite_device(name: str, *, near: str = "here", out: str | Path | None = None) -> DeviceCredential:
    """A credential for a device without Python, in the folder `out` (None: of its name, here), and what is in it.

    near: the machine at whose broker it will find its site. Raises EdgebenchError.
    """
    from edgebench.fabric.tls import private_folder
    from edgebench.lab.devices import write_credential

    folder = Path(name if out is None else out)
    if folder.exists():
        raise EdgebenchError(f"{folder}: is there already (name another with --out)")
    try:
        private_folder(folder)
    except OSError as error:
        raise EdgebenchError(f"{folder}: cannot be made: {error.strerror} (name another with --out)") from error
    try:
        with _lab() as lab:
            credential = lab.invite_device(name, near)
            try:
                write_credential(credential, folder)
            except OSError as error:
                lab.remove(name)  # nobody would ever have its key
                raise EdgebenchError(f"{folder}: cannot be written: {error.strerror}") from error
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return credential


def lab_list() -> list[MachineInfo]:
    """The machines of the lab that is served here. Raises EdgebenchError."""
    with _lab() as lab:
        return lab.machines()


def lab_refusals() -> dict[str, int]:
    """How many the lab that is served here has refused since it was started, by reason. Raises EdgebenchError."""
    with _lab() as lab:
        return lab.refusals()


def lab_remove(name: str) -> None:
    """End a machine's access to the lab, at once. Raises EdgebenchError."""
    with _lab() as lab:
        lab.remove(name)


def join(
    url: str,
    token: str | None = None,
    *,
    name: str | None = None,
    ports: tuple[int, int] = PORTS,
    sensors: Sequence[str] = (),
    token_file: str | Path | None = None,
    meter: str | None = None,
    once: bool = False,
    install: bool = False,
) -> None:
    """Make this machine one of a lab's, and work for it until SIGINT or SIGTERM; says on stderr how it stands.

    token: None where it has joined before. name: None for the host's. ports: the first and the last at which parts of
    runs listen here. sensors: what nodes read here, `NODE[/WORKLOAD]=SENSOR` (docs/sensors.md), beside what was said
    before. token_file: where the token will be; it is waited for. meter: of this machine's power, module:attribute
    (None: the processor's own, where it may be read). once: for one run, and return when it is over. install: have
    systemd do so, and return. Raises EdgebenchError, also once the lab has removed this machine.
    """
    from edgebench.experiments import labs

    choices = [parse_sensor(each, Path()) for each in sensors]
    check_can_be_read(choices)
    if token is not None and token_file is not None:
        raise EdgebenchError("--token-file: a token is given besides (leave out one of the two)")
    invited = _path(token_file) if token is None else token
    labs.join_lab(url, invited, name, ports=ports, sensors=choices, meter=meter, once=once, install=install, tell=_say)


def _lab() -> contextlib.closing[LabClient]:
    from edgebench.lab import serving

    return contextlib.closing(serving.connect())


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _loaded(topology: TopologyFile | str | Path) -> TopologyFile:
    return topology if isinstance(topology, TopologyFile) else load(topology)


def _path(path: str | Path | None) -> Path | None:
    return None if path is None else Path(path)
