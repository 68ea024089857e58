"""A topology that is run as a placement has it."""

from __future__ import annotations

from pathlib import Path

from edgebench.experiments import placing, placing_streams
from edgebench.experiments.given import TopologyFile, with_overrides
from edgebench.experiments.job_runs import runs_jobs
from edgebench.placement.stream_placed import overrides_in
from edgebench.tasks import names
from edgebench.topology import check, jobs_of

ONLINE = "online"
"""Instead of a file: edges place workloads anew while a run goes on."""


def with_placement(given: TopologyFile, placed: str | Path) -> TopologyFile:
    """Its workloads, or its jobs, where the placement in a file has them; or `ONLINE`. Raises EdgebenchError."""
    topology = given.topology
    if placed == ONLINE:
        return given if topology.place.online is not None else with_overrides(given, ["place.online={}"])
    file = Path(placed)
    if topology.jobs:
        check(topology, given.path, tasks=names())
        jobs = jobs_of(topology)
        placement, _ = placing.placed_before(file, placing.problem_of(topology, jobs, given.path), jobs)
        return runs_jobs(given, jobs, placement)
    return with_overrides(given, list(overrides_in(placing_streams.placed_before(file, topology), topology)))
