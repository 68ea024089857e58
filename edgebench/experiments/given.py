"""What a run is given: a topology and its overrides, and how a run directory keeps both, so that it stands alone."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from edgebench.results.rundir import (
    DEPLOYMENT,
    MODELS,
    OVERRIDES,
    PROFILES,
    TOPOLOGY,
    TRACES,
    read_overrides,
    write_json,
)
from edgebench.topology import load, profiles_of, topology_file
from edgebench.topology.link_model import Link, traces_of
from edgebench.topology.loading import names_a_file, overridden
from edgebench.topology.model import NodeGroup, Topology, Trace
from edgebench.topology.profile_files import written
from edgebench.topology.profiles import HOST
from edgebench.topology.resolving import without_login
from edgebench.topology.strict_yaml import dump

_DESCRIPTION = ".json"
"""What the name of a model's file has besides, where that describes it."""


@dataclass(frozen=True)
class TopologyFile:
    """A topology that was read. overrides: `PATH=VALUE`, as they were applied, in their order."""

    path: Path
    overrides: tuple[str, ...]
    topology: Topology


def open_topology(given: str | Path, overrides: Sequence[str] = ()) -> TopologyFile:
    """Read a topology file, one that ships by its name, or that of an earlier run by its run directory (with the
    overrides of that run, before those given here).

    Its shape is checked, no more. Raises TopologyError.
    """
    path = topology_file(given)
    if (path / DEPLOYMENT).is_file():
        path /= TOPOLOGY
    if path.name == TOPOLOGY and (path.parent / DEPLOYMENT).is_file():
        overrides = [*read_overrides(path.parent), *overrides]
    return TopologyFile(path, tuple(overrides), load(path, overrides))


def with_overrides(given: TopologyFile, overrides: Sequence[str]) -> TopologyFile:
    """Read it again, with these after those that it has. Raises TopologyError."""
    every = (*given.overrides, *overrides)
    return TopologyFile(given.path, every, load(given.path, every))


def keep_given(run_dir: Path, given: TopologyFile, topology: Topology) -> Topology:
    """Write `topology.yaml` as it was given, the overrides that make `topology` of it, its trace files and profiles.

    Gives the topology whose traces and profiles are those that are kept; those of loads, and profiles, are named
    relative to the run directory.
    """
    shutil.copyfile(given.path, run_dir / TOPOLOGY)
    workloads = dict(topology.workloads)
    for name, workload in topology.workloads.items():
        if isinstance(workload.load, Trace):
            trace = msgspec.structs.replace(workload.load, file=_kept(workload.load.file, run_dir, name))
            workloads[name] = msgspec.structs.replace(workload, load=trace)
    faults = list(topology.faults)
    for index, fault in enumerate(faults):
        if fault.trace is not None:
            kept_file = run_dir / _kept(fault.trace, run_dir, _fault_trace(index))
            faults[index] = msgspec.structs.replace(fault, trace=str(kept_file))
    own = msgspec.structs.replace(
        topology,
        workloads=workloads,
        nodes=_kept_profiles(run_dir, topology),
        links=tuple(_kept_link(index, link, run_dir) for index, link in enumerate(topology.links)),
        faults=tuple(faults),
    )
    earlier = list(given.overrides)
    if own.broker.url is not None:  # which may have a login in it
        earlier = [each for each in earlier if not each.removeprefix("$.").startswith("broker")]
    # Of two that are the same, the later one counts.
    overrides = list(dict.fromkeys([*_places(own), *reversed(earlier)]))[::-1]
    write_json(run_dir / OVERRIDES, overrides)
    return own


def write_alone(folder: Path, given: TopologyFile, topology: Topology) -> None:
    """Write `topology.yaml` with the overrides that make `topology` of it, and beside it the files that it names."""
    keep_given(folder, given, _with_models_in(folder, topology))
    (folder / TOPOLOGY).write_text(dump(overridden(folder / TOPOLOGY, read_overrides(folder))), "utf-8")
    (folder / OVERRIDES).unlink()


def _with_models_in(folder: Path, topology: Topology) -> Topology:
    """Its models' files, with their descriptions, are copied there, and named from there."""
    workloads = dict(topology.workloads)
    for name, workload in topology.workloads.items():
        if names_a_file(workload.model):
            source = Path(workload.model.source)
            kept = f"{MODELS}/{name}{source.suffix}"
            (folder / MODELS).mkdir(exist_ok=True)
            for suffix in ("", _DESCRIPTION):
                if (file := source.with_name(source.name + suffix)).is_file():
                    shutil.copyfile(file, folder / f"{kept}{suffix}")
            model = msgspec.structs.replace(workload.model, source=kept)
            workloads[name] = msgspec.structs.replace(workload, model=model)
    return msgspec.structs.replace(topology, workloads=workloads)


def _kept_profiles(run_dir: Path, topology: Topology) -> dict[str, NodeGroup]:
    """The nodes, whose profiles are kept in the run directory: each says all there is, without another beside it."""
    kept = {}
    for given, profile in profiles_of(topology).items():
        kept[given] = f"{PROFILES}/{profile.name}.json"
        (run_dir / PROFILES).mkdir(exist_ok=True)
        (run_dir / kept[given]).write_bytes(written(profile))
    return {
        name: msgspec.structs.replace(group, profile=kept.get(group.profile, group.profile))
        for name, group in topology.nodes.items()
    }


def _kept_link(index: int, link: Link, run_dir: Path) -> Link:
    kept = {field: _kept(file, run_dir, f"links-{index}.{field}") for field, file in traces_of(link).items()}
    return msgspec.structs.replace(link, **kept)


def _kept(file: str, run_dir: Path, name: str) -> str:
    """Copy a trace, and call it what it is from then on, relative to the run directory."""
    kept = f"{TRACES}/{name}.txt"
    (run_dir / TRACES).mkdir(exist_ok=True)
    shutil.copyfile(file, run_dir / kept)
    return kept


def _places(topology: Topology) -> Iterator[str]:
    """Overrides for what the topology would otherwise look for beside its file, and for its broker, without login."""
    if topology.data is not None:
        yield _override("data", topology.data)
    if topology.broker.url is not None:
        yield _override("broker", {"url": without_login(topology.broker.url)})
    for name, group in topology.nodes.items():
        if group.profile != HOST:
            yield _override(f"nodes.{name}.profile", group.profile)
    for name, workload in topology.workloads.items():
        if isinstance(workload.load, Trace):
            yield _override(f"workloads.{name}.load.file", workload.load.file)
        if names_a_file(workload.model):
            yield _override(f"workloads.{name}.model.source", workload.model.source)
    for index, link in enumerate(topology.links):
        yield from (_override(f"links[{index}].{field}", file) for field, file in traces_of(link).items())
    for index, federated in enumerate(topology.federated):
        if federated.app is not None:
            yield _override(f"federated[{index}].app", federated.app)
    traced = [index for index, fault in enumerate(topology.faults) if fault.trace is not None]
    yield from (_override(f"faults[{index}].trace", f"{TRACES}/{_fault_trace(index)}.txt") for index in traced)


def _fault_trace(index: int) -> str:
    """What a run directory calls the availability trace of a fault."""
    return f"faults-{index}"


def _override(path: str, value: str | dict[str, str]) -> str:
    return f"{path}={msgspec.json.encode(value).decode()}"
