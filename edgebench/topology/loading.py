"""Reading a topology file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from msgspec.structs import replace

from edgebench.errors import TopologyError
from edgebench.home import expanded
from edgebench.topology.link_model import Link, traces_of
from edgebench.topology.model import ModelChoice, Topology, Trace, Workload
from edgebench.topology.overrides import Override, apply_overrides, json_path
from edgebench.topology.profile_files import profile_file
from edgebench.topology.shape import ShapeError, typed
from edgebench.topology.shipped import shipped
from edgebench.topology.strict_yaml import Unseen, Value, YamlError, parse
from edgebench.topology.wording import did_you_mean, one_line


def load(path: str | Path, overrides: Sequence[str] = ()) -> Topology:
    """The topology of a file, with `--set` overrides (`path=value`) applied.

    A `profile` that is named and kept comes out as its file; relative paths inside it (`data`, a `profile`, a trace's
    `file`, traces of links, faults and jobs, a model's `source`, a Flower `app`) are taken from the file's own folder
    and come out absolute. Only its shape is checked;
    `check` looks at what its fields say of each other. Raises TopologyError.
    """
    path = Path(path)
    document = document_of(path)
    applied = apply_overrides(document, overrides)
    try:
        topology = typed(document, Topology)
    except ShapeError as error:
        raise TopologyError([one_line(_line(path, error, document, applied))]) from error
    return _with_absolute_paths(topology, path.absolute())


def overridden(path: str | Path, overrides: Sequence[str]) -> dict[str, Value]:
    """What stands in a topology file, with overrides applied. Raises TopologyError."""
    document = document_of(Path(path))
    apply_overrides(document, overrides)
    return document


def document_of(path: Path) -> dict[str, Value]:
    """What stands in a YAML file of ours: a mapping. Raises TopologyError."""
    try:
        source = path.read_bytes()
    except FileNotFoundError as error:
        siblings = sorted(file.name for file in path.parent.glob("*.y*ml")) if path.parent.is_dir() else []
        mean = (
            f" (did you mean '{path.stem}', which ships?)"
            if path.stem in shipped()
            else did_you_mean(path.name, siblings)
        )
        raise TopologyError([f"{path}: no such file{mean}"]) from error
    except IsADirectoryError as error:
        raise TopologyError([f"{path}: is a folder (name a topology file in it)"]) from error
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise TopologyError([one_line(f"{path}: cannot be read: {reason}")]) from error
    if path.suffix == ".csv":
        raise TopologyError([f"{path}: a table, not a topology (a job trace is named in one, by jobs: {path.name})"])
    try:
        document = parse(source)
    except YamlError as error:
        raise TopologyError([one_line(f"{path}: {error}")]) from error
    if document is None:
        raise TopologyError(
            [f"{path}: line 1: the file is empty (begin with 'schema: 1'; edgebench init icu-ward makes an example)"]
        )
    if not isinstance(document, dict):
        kind = "a list" if isinstance(document, list) else "a single value"
        raise TopologyError([f"{path}: $: expected a mapping of fields, got {kind} (begin with 'schema: 1')"])
    return document


def unseen_in(file: str | Path) -> Unseen:
    """The characters of a YAML file that cannot be seen, of which a problem may come; of one that is not there none."""
    try:
        return Unseen(Path(file).read_bytes())
    except (OSError, ValueError):
        return Unseen(b"")


def _line(path: Path, error: ShapeError, document: dict[str, Value], applied: Sequence[Override]) -> str:
    """The problem as one line, laid at the door of the override that made the place, if one did."""
    place = json_path(error.steps)
    full = place if error.field is None else f"{place}.{error.field}"
    for override in reversed(applied):
        if _is_within(full, override.made):
            below = place.removeprefix(override.place).removeprefix(".") if _is_within(place, override.place) else ""
            return ": ".join(filter(None, (override.label, below, error.problem)))
    return f"{path}: {place}: {error.problem}{unseen_in(path).at(place, error.problem, document)}"


def _is_within(place: str, other: str) -> bool:
    return place == other or place.startswith((f"{other}.", f"{other}["))


def _with_absolute_paths(topology: Topology, path: Path) -> Topology:
    folder = path.parent
    return replace(
        topology,
        data=None if topology.data is None else str(folder / expanded(topology.data)),
        nodes={
            name: replace(group, profile=profile_file(group.profile, path)) for name, group in topology.nodes.items()
        },
        links=tuple(_link(link, folder) for link in topology.links),
        workloads={name: _workload(workload, folder) for name, workload in topology.workloads.items()},
        federated=tuple(
            federated if federated.app is None else replace(federated, app=str(folder / federated.app))
            for federated in topology.federated
        ),
        faults=tuple(
            fault if fault.trace is None else replace(fault, trace=str(folder / fault.trace))
            for fault in topology.faults
        ),
        jobs=str(folder / expanded(topology.jobs)) if isinstance(topology.jobs, str) else topology.jobs,
    )


def _link(link: Link, folder: Path) -> Link:
    return replace(link, **{field: str(folder / name) for field, name in traces_of(link).items()})


def _workload(workload: Workload, folder: Path) -> Workload:
    load = workload.load
    if isinstance(load, Trace):
        load = replace(load, file=str(folder / load.file))
    model = workload.model
    if names_a_file(model):
        model = replace(model, source=str(folder / model.source))
    return replace(workload, load=load, model=model)


def names_a_file(model: ModelChoice) -> bool:
    """Whether the model is to come from a file, rather than from training or from the registry."""
    return model.source != "train" and not model.source.startswith("sha256:")
