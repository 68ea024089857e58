"""A placement of jobs as data: what was decided for each, and what comes of it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Literal

import msgspec

from edgebench.errors import EdgebenchError
from edgebench.placement.model import Orders, Problem
from edgebench.placement.schedule import schedule, weighted_response_s
from edgebench.topology.job_model import Job
from edgebench.topology.model import Tier
from edgebench.topology.wording import listed, table, things

PROVEN = 1e-6
"""A gap below is rounding: the schedule is an optimum."""


class Record(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A record of the file."""


class PlacedJob(Record, frozen=True):
    """A job by its index in the trace, where it is placed, and when it is served there, s from the trace's start."""

    job: int
    task: str
    device: str
    priority: int
    release_s: float
    size_bytes: int
    tier: Tier
    node: str
    transmission_s: float
    processing_s: float
    start_s: float
    end_s: float

    @property
    def response_s(self) -> float:
        """From its release to its end."""
        return self.end_s - self.release_s

    @property
    def wait_s(self) -> float:
        """From its data's being there to its being served."""
        return self.start_s - self.release_s - self.transmission_s


class Placement(Record, frozen=True, tag="placement", tag_field="kind"):
    """Jobs, placed. topology: by its name.

    weighted_response_s: the sum of the response times, each times the job's priority. bound_s: no schedule has a
    smaller one, where the policy tells; gap: what lies between, as a share of `weighted_response_s`.
    """

    schema: Literal[1]
    topology: str
    policy: str
    seed: int
    weighted_response_s: float
    jobs: tuple[PlacedJob, ...]
    bound_s: float | None = None
    gap: float | None = None


def placement_of(
    problem: Problem,
    jobs: Sequence[Job],
    orders: Orders,
    *,
    topology: str,
    policy: str,
    seed: int,
    bound_s: float | None,
) -> Placement:
    """What comes of machines' serving in these orders. jobs: of the problem, as the trace has them."""
    slots = schedule(problem, orders)
    value_s = weighted_response_s(problem, slots)
    placed = tuple(
        PlacedJob(
            job=index,
            task=job.task,
            device=job.device,
            priority=job.priority,
            release_s=job.release_s,
            size_bytes=job.size_bytes,
            tier=slot.option.tier,
            node=slot.option.node,
            transmission_s=slot.option.transmission_s,
            processing_s=slot.option.processing_s,
            start_s=slot.start_s,
            end_s=slot.end_s,
        )
        for index, (job, slot) in enumerate(zip(jobs, slots, strict=True))
    )
    # Above the value by rounding only.
    bound_s = None if bound_s is None else min(bound_s, value_s)
    gap = None if bound_s is None else (value_s - bound_s) / value_s
    return Placement(1, topology, policy, seed, value_s, placed, bound_s, gap)


def orders_in(placement: Placement, problem: Problem, jobs: Sequence[Job]) -> Orders:
    """The orders that a placement has decided, for the same jobs. Raises EdgebenchError where they are others, or may
    not be where it has them."""
    if len(placement.jobs) != len(jobs):
        raise EdgebenchError(
            f"$.jobs: has {len(placement.jobs):,}, and the job trace {len(jobs):,} (place that trace anew)"
        )
    by_node: dict[str, list[tuple[float, float, int]]] = defaultdict(list)
    for index, (placed, job) in enumerate(zip(placement.jobs, jobs, strict=True)):
        if (placed.job, *_of_trace(placed)) != (index, *_of_trace(job)):
            raise EdgebenchError(f"$.jobs[{index}]: is not the job trace's (place that trace anew)")
        tiers = {option.node: option.tier for option in problem.jobs[index].options}
        if placed.node not in tiers:
            raise EdgebenchError(
                f"$.jobs[{index}].node: the job may not be on '{placed.node}' (it may on {listed(list(tiers))})"
            )
        if placed.tier != tiers[placed.node]:
            is_of = f"'{placed.node}' is of tier {tiers[placed.node]}"
            raise EdgebenchError(f"$.jobs[{index}].tier: is {placed.tier}, and {is_of} (change one of them)")
        by_node[placed.node].append((placed.start_s, placed.end_s, index))
    return {node: tuple(index for _, _, index in sorted(served)) for node, served in by_node.items()}


def _of_trace(job: PlacedJob | Job) -> tuple[object, ...]:
    return job.release_s, job.priority, job.task, job.device, job.size_bytes


def shown(placement: Placement, most_jobs: int = 40) -> Iterator[str]:
    """A placement in lines for people. most_jobs: of a longer trace as many are shown, the first ones."""
    tiers = [job.tier for job in placement.jobs]
    counts = ", ".join(f"{tiers.count(tier)} on {tier}" for tier in ("device", "edge", "cloud") if tier in tiers)
    yield f"{placement.topology}: {things(len(tiers), 'job')} by {placement.policy}, seed {placement.seed}: {counts}"
    yield f"  weighted sum of response times  {placement.weighted_response_s:,.6g} s"
    yield f"  last job ends at                {max(job.end_s for job in placement.jobs):,.6g} s"
    if placement.gap is not None and placement.bound_s is not None:
        tells = "proven optimal" if placement.gap < PROVEN else f"gap {placement.gap:.2%}"
        yield f"  no schedule is below            {placement.bound_s:,.6g} s ({tells})"
    yield from _table(placement.jobs[:most_jobs])
    if len(tiers) > most_jobs:
        yield f"  and {len(tiers) - most_jobs:,} more (--out FILE writes them all)"


def _table(jobs: Sequence[PlacedJob]) -> Iterator[str]:
    head = ("job", "task", "device", "priority", "release_s", "node", "transmission_s", "wait_s", "processing_s")
    rows = [
        (
            str(job.job),
            job.task,
            job.device,
            str(job.priority),
            f"{job.release_s:.6g}",
            job.node,
            f"{job.transmission_s:.4g}",
            f"{max(0.0, job.wait_s):.4g}",
            f"{job.processing_s:.4g}",
            f"{job.response_s:.4g}",
        )
        for job in jobs
    ]
    return table([(*head, "response_s"), *rows], texts={1, 2, 5})
