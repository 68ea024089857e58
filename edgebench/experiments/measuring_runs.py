"""Short real runs on this machine that say what things take: one of a topology as it is, and one with full batches,
which a simulation of more load needs to know; another one where the cloud would have none, as it is asked by cascades
alone, and one without profiles where what their nodes' messages take waits for cores."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import numpy as np

from edgebench.experiments.cells import KeptRuns, cell_key
from edgebench.experiments.deployment_checks import checked_deployment
from edgebench.experiments.given import TopologyFile, with_overrides
from edgebench.experiments.run import RunOptions, run_whole
from edgebench.simulation.contention import contended_nodes
from edgebench.topology import link_traces_of
from edgebench.topology.deployment import Deployment
from edgebench.topology.model import After, With
from edgebench.topology.placing import wheres
from edgebench.topology.profiles import HOST
from edgebench.topology.resolving import link_plan

_LONGEST_S = 20.0
_EVERY_S = 1.0
"""So often all devices have samples at once, in between which a node has nothing to do."""
_BATCHES = 2
"""So many full batches of a workload a node has to decide then, at least."""
_WAIT_MS = 100.0
"""So long a node waits for a batch to be full."""


def measured(
    given: TopologyFile, deployment: Deployment, kept: KeptRuns, registry: Path, tell: Callable[[str], None]
) -> tuple[Path, ...]:
    """Run a topology, which was checked, on this machine; the run directories, in the folder of those that are kept.

    Raises EdgebenchError, and KeyboardInterrupt where one was interrupted.
    """
    kept.folder.mkdir(parents=True, exist_ok=True)
    found = []
    for how, overrides in _settings(given, deployment, kept.folder).items():
        topology = with_overrides(given, overrides)
        key = cell_key(checked_deployment(topology.topology, topology.path, "local"), topology.topology)
        earlier = kept.find(key)
        if earlier is not None:
            found.append(earlier[0])
            continue
        tell(f"no --calibrate: measuring what things take, by a run on this machine {how}")
        run_dir, result = run_whole(topology, RunOptions(out=kept.folder, registry=registry))
        if result.verdict.valid:
            kept.keep(key, run_dir, {})  # else it is made again where the search is gone on with
        for reason in result.verdict.reasons:
            tell(f"not valid: {reason}")
        found.append(run_dir)
    return tuple(found)


def _settings(given: TopologyFile, deployment: Deployment, folder: Path) -> dict[str, list[str]]:
    """The runs, in words, and what they change of the topology. folder: where files that they name are written."""
    as_it_is_s = min(_LONGEST_S, given.topology.duration_s)
    settings = {
        f"as it is, for {as_it_is_s:g} s": [
            f"duration_s={as_it_is_s!r}",
            *_steady_links(given),
            *_moves_within(given, as_it_is_s),
        ],
        f"with full batches, for {_LONGEST_S:g} s": [*_bursts(given, deployment, folder, "")],
    }
    if contended_nodes(deployment) and any(node.profile == HOST for node in deployment.nodes.values()):
        # What the profile does not tell of their messages is told by two nodes that are as fast as this machine.
        on_hosts = [f"nodes.{name}.profile={HOST}" for name, of in given.topology.nodes.items() if of.profile != HOST]
        as_it_is = settings[f"as it is, for {as_it_is_s:g} s"]
        settings[f"without profiles, for {as_it_is_s:g} s"] = [*as_it_is, *on_hosts]
    if in_the_cloud := [*_without_cascades(deployment)]:
        there = with_overrides(given, in_the_cloud)
        deployed = checked_deployment(there.topology, there.path, "local")
        settings[f"with full batches in the cloud, for {_LONGEST_S:g} s"] = [
            *in_the_cloud,
            *_bursts(there, deployed, folder, "-in-the-cloud"),
        ]
    return settings


def _steady_links(given: TopologyFile) -> Iterator[str]:
    """Links that vary over time are as they are on average, and lose nothing: others tell nothing of what a message
    takes besides."""
    links, traces = given.topology.links, link_traces_of(given.topology)
    plans = [link_plan(link, traces) for link in links]
    for index, (link, plan) in enumerate(zip(links, plans, strict=True)):
        if plan.varies:
            steady = {
                "between": link.between,
                "latency_ms": plan.latency_ms,
                **({} if plan.delay_trace else {"jitter_ms": plan.jitter_ms, "jitter": plan.jitter}),
                "up_mbit_s": plan.up_mbit_s,
                "down_mbit_s": plan.down_mbit_s,
                "shared": link.shared,
                "energy": link.energy,
            }
            yield f"links[{index}]={msgspec.json.encode(steady).decode()}"


def _moves_within(given: TopologyFile, duration_s: float) -> Iterator[str]:
    """Devices move as early in a shorter run, for its length."""
    topology = given.topology
    if topology.moves and duration_s != topology.duration_s:
        sooner = [
            {"at_s": move.at_s * duration_s / topology.duration_s, "node": move.node, "to": move.to}
            for move in topology.moves
        ]
        yield f"moves={msgspec.json.encode(sooner).decode()}"


def _bursts(given: TopologyFile, deployment: Deployment, folder: Path, which: str) -> Iterator[str]:
    """Every device has samples at the same time, so many that nodes decide full batches; each workload at another time,
    so that none has to share its cores with another. folder: where files say when that is; which: is in their names."""
    yield f"duration_s={_LONGEST_S!r}"
    if given.topology.moves:
        yield "moves=[]"
    # What comes across a link with a rate comes one by one, and a node would wait for that.
    yield f"links={msgspec.json.encode([{'between': link.between} for link in given.topology.links]).decode()}"
    workloads = given.topology.workloads
    for name, each in workloads.items():
        if wheres(each) != ("device",):
            yield f"workloads.{name}.batch.max_wait_ms={_WAIT_MS!r}"
    paced = [name for name, each in workloads.items() if not isinstance(each.load, With | After)]
    for place, name in enumerate(paced):
        plan = deployment.workloads[name]
        shared = len(plan.deciders) / len(set(plan.deciders.values()))
        together = math.ceil(_BATCHES * plan.batch.max_batch / shared)
        times_s = np.arange(0, _LONGEST_S, _EVERY_S) + place * _EVERY_S / len(paced)
        file = folder / f"{name}{which}.txt"
        file.write_text("".join(f"{time_s:.6f}\n" * together for time_s in times_s), "utf-8")
        load = msgspec.json.encode({"kind": "trace", "file": str(file)}).decode()
        yield f"workloads.{name}.load={load}"


def _without_cascades(deployment: Deployment) -> Iterator[str]:
    """The cloud decides all that a cascade would ask it only where an edge is unsure: too little for full batches."""
    for name, plan in deployment.workloads.items():
        if plan.cascade is not None:
            yield f"workloads.{name}.place.infer=cloud"
            yield f"workloads.{name}.cascade=null"
            for field in ("size", "runtime", "quantisation"):
                yield f"workloads.{name}.model.{field}={getattr(plan.cascade, field)}"
