"""Jobs are placed: those of a topology become an allocation problem, a policy decides, and a placement comes of it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

from cloud.export import BATCHES
from edgebench.core.service_times import BatchTimes, lacking, splits_by
from edgebench.errors import EdgebenchError, TopologyError
from edgebench.experiments.given import TopologyFile
from edgebench.placement.exact import end_solver
from edgebench.placement.files import read_placement
from edgebench.placement.model import JobOptions, Option, Orders, Problem
from edgebench.placement.placed import Placement, orders_in, placement_of
from edgebench.placement.policies import policy_named
from edgebench.seeds import rng_for
from edgebench.tasks import task_named
from edgebench.tasks.task import ModelInfo
from edgebench.topology import jobs_of, profiles_of, resolve
from edgebench.topology.deployment import Deployment, LinkPlan, NodePlan
from edgebench.topology.job_model import ByMultiplyAdds, ByParameters, ByProfile, Cost, Job
from edgebench.topology.model import Tier, Topology
from edgebench.topology.profiles import ModelKey, Profile
from edgebench.topology.wording import listed, one_line

_TIERS: tuple[Tier, ...] = ("device", "edge", "cloud")

Processing = Callable[[str, Job], float]
"""What a job takes on a node of a group, s."""


def place_jobs(given: TopologyFile, policy: str | None, placement: Path | None, limit_s: float) -> Placement:
    """Place the jobs of a topology, which was checked, by a policy, or as an earlier placement has them. limit_s: how
    long a policy may seek a proof. Raises EdgebenchError."""
    topology = given.topology
    jobs = jobs_of(topology)
    problem = problem_of(topology, jobs, given.path)
    if policy is None:
        assert placement is not None
        earlier, orders = placed_before(placement, problem, jobs)
        name, seed = earlier.policy, earlier.seed
        return placement_of(problem, jobs, orders, topology=topology.name, policy=name, seed=seed, bound_s=None)
    try:
        decision = policy_named(policy, limit_s)(problem, rng_for(topology.seed, "place", policy))
    finally:
        end_solver()
    return placement_of(
        problem,
        jobs,
        decision.orders,
        topology=topology.name,
        policy=policy,
        seed=topology.seed,
        bound_s=decision.bound_s,
    )


def placed_before(file: Path, problem: Problem, jobs: Sequence[Job]) -> tuple[Placement, Orders]:
    """An earlier placement of the same jobs, and the orders that it has decided. Raises EdgebenchError."""
    earlier = read_placement(file)
    if not isinstance(earlier, Placement):
        raise EdgebenchError(f"{file}: places workloads, and the topology has jobs (place these: edgebench place)")
    try:
        return earlier, orders_in(earlier, problem, jobs)
    except EdgebenchError as error:
        raise EdgebenchError(one_line(f"{file}: {error}")) from error


def problem_of(topology: Topology, jobs: Sequence[Job], file: Path) -> Problem:
    """What each job takes where it may be placed. The topology has passed its check; file: what messages call it.

    Raises TopologyError where a cost is not known: none is taken for 0.
    """
    assert topology.place.cost is not None
    profiles = profiles_of(topology)
    deployment = resolve(topology, run_id="place", executor="local", profiles=profiles)
    try:
        processing = _processing(topology, topology.place.cost, profiles, {job.task for job in jobs})
        return Problem(tuple(_options(topology, deployment, job, processing) for job in jobs))
    except EdgebenchError as error:
        raise TopologyError([one_line(f"{file}: $.place.cost: {error}")]) from error


def _options(topology: Topology, deployment: Deployment, job: Job, processing: Processing) -> JobOptions:
    node, transmission_s, options = deployment.nodes[job.device], 0.0, []
    for tier in _TIERS:
        assert node.tier == tier
        if tier in topology.place.allow:
            options.append(Option(tier, node.name, transmission_s, processing(node.group, job)))
        node, transmission_s = _above(deployment, node, transmission_s, job)
    return JobOptions(job.release_s, job.priority, tuple(options))


def _above(deployment: Deployment, node: NodePlan, transmission_s: float, job: Job) -> tuple[NodePlan, float]:
    """The next node on the way to the cloud, and when a job's data are all there; the cloud itself from the cloud."""
    if node.parent is None:
        return node, transmission_s
    link = deployment.links[f"{node.name} -> {node.parent}"]
    return deployment.nodes[node.parent], transmission_s + _way_s(link, job.size_bytes)


def _way_s(link: LinkPlan, size_bytes: int) -> float:
    sending_s = 0.0 if link.up_mbit_s is None else 8 * size_bytes / (link.up_mbit_s * 1e6)
    return sending_s + link.latency_ms / 1e3


def _processing(topology: Topology, cost: Cost, profiles: dict[str, Profile], tasks: set[str]) -> Processing:
    sizes = {task: _sample_bytes(task, cost) for task in sorted(tasks)}
    if isinstance(cost, ByProfile):
        times = {
            (group, task): _measured(profiles[topology.nodes[group].profile], ModelKey(task, *_model(cost)))
            for group, plan in topology.nodes.items()
            if plan.tier in topology.place.allow
            for task in sizes
        }
        return lambda group, job: times[group, job.task](math.ceil(job.size_bytes / sizes[job.task]))
    counts = {task: _count(task, cost) for task in sizes}
    return lambda group, job: counts[job.task] * (job.size_bytes / sizes[job.task]) / cost.per_s[group]


def samples_of(job: Job, cost: Cost) -> int:
    """How many samples a job has; what is left of one counts. Raises EdgebenchError where it is not known."""
    return math.ceil(job.size_bytes / _sample_bytes(job.task, cost))


def _model(cost: ByProfile) -> tuple[str, str, str]:
    return cost.size, cost.runtime, cost.quantisation


def _info(task: str, size: str) -> ModelInfo:
    models = {str(name): info for name, info in task_named(task).models.items()}
    if size not in models:
        raise EdgebenchError(f"size: {task} has no '{size}' (write {' or '.join(models)})")
    return models[size]


def _sample_bytes(task: str, cost: Cost) -> int:
    known = cost.sample_bytes.get(task) or _info(task, cost.size).sample_bytes
    if known is None:
        mend = f"add {task}: BYTES"
        raise EdgebenchError(f"sample_bytes: nothing tells how large a sample of {task} ({cost.size}) is ({mend})")
    return known


def _count(task: str, cost: ByParameters | ByMultiplyAdds) -> int:
    what, field = ("parameters", "parameters") if isinstance(cost, ByParameters) else ("multiply-adds", "multiply_adds")
    known: int | None = cost.counts.get(task) or getattr(_info(task, cost.size), field)
    if known is None:
        raise EdgebenchError(f"counts: nobody has counted the {what} of {task} ({cost.size}) (add {task}: NUMBER)")
    return known


def _measured(profile: Profile, model: ModelKey) -> Callable[[int], float]:
    """The mean time of so many samples, s: as many as can be in batches of the largest size that was measured."""
    times, sizes = profile.model_times(model), splits_by(model.runtime, BATCHES)
    largest = max(times, default=1)
    missing = lacking(times, sizes, largest)
    if missing:
        batches = listed([str(size) for size in missing])
        mend = "measure them: edgebench profile"
        raise EdgebenchError(f"'{profile.name}' has no times of {model} for batches of {batches} ({mend})")
    mean = BatchTimes(times, sizes, iter(()))

    @cache
    def mean_s(samples: int) -> float:
        whole, rest = divmod(samples, largest)
        return (whole * mean.mean_ns(largest) + (mean.mean_ns(rest) if rest else 0.0)) / 1e9

    return mean_s
