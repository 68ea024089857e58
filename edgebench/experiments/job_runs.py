"""A job trace as a topology that is run: each job is one sample, due at its release, which is decided where a placement
has it."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import msgspec

from edgebench.errors import TopologyError
from edgebench.experiments.given import TopologyFile
from edgebench.experiments.placing import samples_of
from edgebench.placement.placed import Placement
from edgebench.topology import load, profiles_of, resolve
from edgebench.topology.deployment import Deployment, NodePlan
from edgebench.topology.job_model import ByProfile, Job
from edgebench.topology.link_model import Link
from edgebench.topology.model import Batch, ModelChoice, NodeGroup, Place, Tier, Topology, Trace, Training, Workload
from edgebench.topology.strict_yaml import dump
from edgebench.topology.wording import one_line

_AFTER_S = 1.0
_EXAMPLES = 200
"""Of the data that models are trained on: what jobs decide is of no interest, only when."""


def runs_jobs(given: TopologyFile, jobs: Sequence[Job], placement: Placement) -> TopologyFile:
    """The topology, with a workload for each job, in a folder that is there as long as this process.

    Raises TopologyError where a run could not be what the placement supposes.
    """
    topology, file = given.topology, given.path
    cost = topology.place.cost
    if not isinstance(cost, ByProfile):
        takes = "a run takes what its machines take (write by: measured, and a profile for each node)"
        raise TopologyError([one_line(f"{file}: $.place.cost: {takes}")])
    several = [(index, count) for index, job in enumerate(jobs) if (count := samples_of(job, cost)) > 1]
    if several:
        index, count = several[0]
        one = f"has {count:,} samples, and is run as one (lower size_bytes)"
        raise TopologyError([one_line(f"{file}: $.jobs[{index}].size_bytes: {one}")])
    deployment = resolve(topology, run_id="jobs", executor="local", profiles=profiles_of(topology))
    folder = Path(tempfile.mkdtemp(prefix="edgebench-jobs-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    model = ModelChoice(size=cost.size, runtime=cost.runtime, quantisation=cost.quantisation)
    tiers = [placed.tier for placed in placement.jobs]
    run = Topology(
        schema=1,
        name=topology.name,
        seed=topology.seed,
        duration_s=max(job.release_s for job in jobs) + _AFTER_S,
        nodes=_nodes(topology, deployment, {job.device for job in jobs}),
        links=tuple(_links(deployment, {job.device for job in jobs})),
        workloads=dict(_workloads(jobs, tiers, model, folder)),
    )
    path = folder / f"{topology.name}.yaml"
    path.write_text(dump(msgspec.json.decode(msgspec.json.encode(run))), "utf-8")
    return TopologyFile(path, (), load(path))


def _nodes(topology: Topology, deployment: Deployment, devices: set[str]) -> dict[str, NodeGroup]:
    """Each node as a group of its own, since a workload is fed by groups; without devices that have no job."""
    return {
        node.name: NodeGroup(tier=node.tier, parent=node.parent, profile=topology.nodes[node.group].profile)
        for node in _there(deployment.nodes, devices)
    }


def _there(nodes: Mapping[str, NodePlan], devices: set[str]) -> Iterator[NodePlan]:
    for node in nodes.values():
        if node.tier == "cloud" or node.name in devices or not devices.isdisjoint(node.children):
            yield node


def _links(deployment: Deployment, devices: set[str]) -> Iterator[Link]:
    there = {node.name for node in _there(deployment.nodes, devices)}
    for link in deployment.links.values():
        if {link.child, link.parent} <= there:
            yield Link(
                between=(link.child, link.parent),
                latency_ms=link.latency_ms,
                up_mbit_s=link.up_mbit_s,
                down_mbit_s=link.down_mbit_s,
            )


def _workloads(
    jobs: Sequence[Job], tiers: Sequence[Tier], model: ModelChoice, folder: Path
) -> Iterator[tuple[str, Workload]]:
    for index, (job, tier) in enumerate(zip(jobs, tiers, strict=True)):
        name = f"job-{index}"
        (folder / f"{name}.txt").write_text(f"{job.release_s!r}\n", "utf-8")
        yield (
            name,
            Workload(
                task=job.task,
                source=job.device,
                load=Trace(file=f"{name}.txt"),
                place=Place(infer=tier),
                model=model,
                train=Training(epochs=1, examples=_EXAMPLES),
                batch=Batch() if tier == "device" else Batch(max_batch=1),
            ),
        )
