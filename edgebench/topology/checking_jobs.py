"""A topology has workloads, which are run, or jobs, which are placed: what has no effect beside jobs is refused."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from itertools import islice

import msgspec

from edgebench.errors import TopologyError
from edgebench.topology.expand import names_of
from edgebench.topology.job_model import ByProfile, Cost, Job
from edgebench.topology.job_trace import read_jobs
from edgebench.topology.link_model import Link
from edgebench.topology.model import Topology
from edgebench.topology.profiles import HOST
from edgebench.topology.wording import did_you_mean

Problem = tuple[str, str]

_USERS_OWN = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*")
_READ = ("schema", "name", "seed", "nodes", "links", "jobs", "place")
"""What is read of a topology with jobs. The rest is about runs."""
_READ_OF_LINKS = ("between", "latency_ms", "rate_mbit_s", "up_mbit_s")
_MOST_TOLD = 20


def task_problem(task: str, tasks: Collection[str]) -> str | None:
    """What is wrong with the name of a task; a `module:attribute` is accepted as it stands."""
    if task in tasks or _USERS_OWN.fullmatch(task):
        return None
    return f"no task '{task}'{did_you_mean(task, tasks)}"


def check_jobs(topology: Topology) -> Iterator[Problem]:
    """Whether there are workloads or jobs, and nothing beside either that has no effect."""
    if len(set(topology.place.allow)) < len(topology.place.allow):
        yield "$.place.allow", "names a tier twice (remove one)"
    if not topology.jobs:
        if not topology.workloads:
            yield "$", "has neither workloads nor jobs (give workloads to run, or jobs to place)"
        if topology.place.cost is not None:
            yield "$.place.cost", "has no effect without jobs (remove it)"
        return
    yield from _check_is_read(topology)
    cost = topology.place.cost
    if cost is None:
        yield "$.place", "does not say what a job takes (give cost, by parameters, multiply-adds or measured)"
    else:
        yield from _check_cost(topology, cost)


def check_trace(topology: Topology, tasks: Collection[str]) -> Iterator[Problem]:
    """The jobs one by one, and what the costs say of their tasks. tasks: the names of the built-in ones."""
    try:
        jobs = _by_place(topology)
    except TopologyError as error:
        yield "$.jobs", str(error)
        return
    devices = {
        name for group, plan in topology.nodes.items() if plan.tier == "device" for name in names_of(topology, group)
    }
    problems = list(islice(_check_each(jobs, tasks, devices), _MOST_TOLD))
    if problems:
        yield from problems
        return
    used = {job.task for job in jobs.values()}
    for field in ("counts", "sample_bytes"):
        for task in getattr(topology.place.cost, field, {}):
            if task not in used:
                yield f"$.place.cost.{field}", f"no job is of the task '{task}'{did_you_mean(task, sorted(used))}"


def _check_is_read(topology: Topology) -> Iterator[Problem]:
    for field in msgspec.structs.fields(Topology):
        if field.name in _READ:
            continue
        plain = field.default if field.default is not msgspec.NODEFAULT else field.default_factory()
        if getattr(topology, field.name) != plain:
            yield (
                f"$.{field.encode_name}",
                "has no effect beside jobs, which are placed, not run (remove it)",
            )
    for index, link in enumerate(topology.links):
        perfect = Link(between=link.between)
        for name in Link.__struct_fields__:
            if name not in _READ_OF_LINKS and getattr(link, name) != getattr(perfect, name):
                yield f"$.links[{index}].{name}", "has no effect on jobs, which take a link's mean way up (remove it)"
    for group, plan in topology.nodes.items():
        if plan.memory_mb is not None:
            yield f"$.nodes.{group}.memory_mb", "has no effect on jobs (remove it)"


def _check_cost(topology: Topology, cost: Cost) -> Iterator[Problem]:
    allowed = [group for group, plan in topology.nodes.items() if plan.tier in topology.place.allow]
    if isinstance(cost, ByProfile):
        for group in allowed:
            if topology.nodes[group].profile == HOST:
                yield f"$.nodes.{group}", "jobs cost what its profile says, and it has none (give profile: FILE)"
        return
    for group, plan in topology.nodes.items():
        if plan.profile != HOST:
            yield (
                f"$.nodes.{group}.profile",
                "has no effect on what jobs cost (write by: measured, or remove it)",
            )
    for group in cost.per_s:
        if group not in topology.nodes:
            yield f"$.place.cost.per_s.{group}", f"no node '{group}'{did_you_mean(group, topology.nodes)}"
    for group in allowed:
        if group not in cost.per_s:
            yield "$.place.cost.per_s", f"does not say how fast '{group}' is, which jobs may be placed on (add it)"


def _by_place(topology: Topology) -> dict[tuple[str, str], Job]:
    """The jobs, by the path in the topology and where each stands in it. Raises TopologyError."""
    if isinstance(topology.jobs, str):
        return {("$.jobs", f"{topology.jobs}: line {line}: "): job for line, job in read_jobs(topology.jobs).items()}
    return {(f"$.jobs[{index}]", ""): job for index, job in enumerate(topology.jobs)}


def _check_each(
    jobs: dict[tuple[str, str], Job], tasks: Collection[str], devices: Collection[str]
) -> Iterator[Problem]:
    for (path, line), job in jobs.items():
        found = {"task": task_problem(job.task, tasks)}
        if job.device not in devices:
            found["device"] = f"no device '{job.device}'{did_you_mean(job.device, devices)}"
        for field, problem in found.items():
            if problem is not None:
                yield (path, f"{line}{field}: {problem}") if line else (f"{path}.{field}", problem)
