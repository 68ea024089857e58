"""What a program or a notebook uses: a run is a function. `import edgebench` offers all of it.

run = edgebench.run(edgebench.load("icu-ward", ["duration_s=10"]))
if run.verdict.valid:
    print(run.figures.workloads["death-risk"].latency_ms)

Raises EdgebenchError, in a line that names the mend, for what a user has to mend first; a run that took place comes
back whatever its verdict.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from edgebench.errors import EdgebenchError
from edgebench.experiments import given
from edgebench.experiments.given import TopologyFile
from edgebench.fabric.listening import PORTS
from edgebench.fabric.sensors import parse_sensor
from edgebench.results import rundir
from edgebench.results.figures import Result, Verdict
from edgebench.tasks.task import Size
from edgebench.topology.deployment import Deployment

if TYPE_CHECKING:
    import pyarrow as pa

    from edgebench.containers.cleaning import Cleaned
    from edgebench.experiments.exporting import ExportTarget
    from edgebench.experiments.train import TrainResult
    from edgebench.lab.messages import DeviceCredential, Invited, MachineInfo, Role
    from edgebench.lab.operator import LabClient

__all__ = [
    "Run",
    "TopologyFile",
    "clean",
    "export",
    "join",
    "lab_invite",
    "lab_invite_device",
    "lab_list",
    "lab_refusals",
    "lab_remove",
    "lab_serve",
    "load",
    "load_run",
    "run",
    "train",
    "validate",
]

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


def load(path: str | Path, overrides: Sequence[str] = ()) -> TopologyFile:
    """Read a topology: a file, one that ships by its name, or an earlier run's by its run directory.

    overrides: `PATH=VALUE`, such as `links[0].latency_ms=5`, in the order in which they are applied. Only its shape is
    checked; see `validate`. Raises TopologyError.
    """
    return given.open_topology(path, overrides)


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
        progress=progress,
        asked_ns=asked_ns,
    )
    return Run(*run_topology(_loaded(topology), options))


def load_run(folder: str | Path, *, rebuild: bool = False) -> Run:
    """A run by its run directory. rebuild: compute its figures and write its report anew, from its records.

    Raises EdgebenchError where it is none, or was cut off.
    """
    path = Path(folder)
    if rebuild:
        from edgebench.report.page import write_report

        return Run(path, write_report(path))
    rundir.load_deployment(path)
    if not (path / rundir.RESULT).is_file():
        raise EdgebenchError(f"{path}: has no {rundir.RESULT} (edgebench report {path} writes it)")
    return Run(path, rundir.read_result(path))


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

    export_topology(target, _loaded(topology), Path(out), base_image, _say if progress else lambda _: None)


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
    from edgebench.lab.devices import write_credential

    folder = Path(name if out is None else out)
    if folder.exists():
        raise EdgebenchError(f"{folder}: is there already (name another with --out)")
    with _lab() as lab:
        credential = lab.invite_device(name, near)
    write_credential(credential, folder)
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
    once: bool = False,
    install: bool = False,
) -> None:
    """Make this machine one of a lab's, and work for it until SIGINT or SIGTERM; says on stderr how it stands.

    token: None where it has joined before. name: None for the host's. ports: the first and the last at which parts of
    runs listen here. sensors: what nodes read here, `NODE[/WORKLOAD]=SENSOR` (docs/sensors.md), beside what was said
    before. token_file: where the token will be; it is waited for. once: for one run, and return when it is over.
    install: have systemd do so, and return. Raises EdgebenchError, also once the lab has removed this machine.
    """
    from edgebench.experiments import labs

    choices = [parse_sensor(each, Path()) for each in sensors]
    if token is not None and token_file is not None:
        raise EdgebenchError("--token-file: a token is given besides (leave out one of the two)")
    invited = _path(token_file) if token is None else token
    labs.join_lab(url, invited, name, ports=ports, sensors=choices, once=once, install=install, tell=_say)


def _lab() -> contextlib.closing[LabClient]:
    from edgebench.lab import serving

    return contextlib.closing(serving.connect())


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _loaded(topology: TopologyFile | str | Path) -> TopologyFile:
    return topology if isinstance(topology, TopologyFile) else load(topology)


def _path(path: str | Path | None) -> Path | None:
    return None if path is None else Path(path)
