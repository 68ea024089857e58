"""`edgebench capacity`: the largest load at which a workload keeps a bound, by search over simulated or real runs."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from edgebench.clock import utc_now
from edgebench.errors import EdgebenchError, TopologyError
from edgebench.executors import EXECUTORS
from edgebench.experiments.capacity_search import CAPACITY, Load, Runner, Search
from edgebench.experiments.cells import CELLS, KeptRuns, cell_key, digests
from edgebench.experiments.deployment_checks import checked_deployment
from edgebench.experiments.given import TopologyFile
from edgebench.experiments.load_search import Scale
from edgebench.experiments.measuring_runs import measured
from edgebench.experiments.places import check_folder, room_in
from edgebench.experiments.run import RunOptions, run_whole
from edgebench.experiments.simulate import (
    by_profiles_alone,
    calibrated,
    check_simulated,
    each_once,
    refuse_learning,
    simulate_with,
)
from edgebench.report.capacity_page import write_page
from edgebench.results.capacities import By, Capacity
from edgebench.results.figures import Result
from edgebench.results.rundir import create_folder
from edgebench.simulation.service_times import ServiceTimes
from edgebench.topology.deployment import SIMULATE
from edgebench.topology.expand import names_of
from edgebench.topology.model import Fixed, Poisson, Server
from edgebench.topology.wording import did_you_mean, listed, one_line

MEASURED = "measured"
_FEWEST_BY_CHANCE = 5
"""So many samples fall due on a device at least, on average; then there is none in 0.7 % of runs."""
FARTHEST = 1024
"""So many times the topology's own load, and so small a part of it, is tried at most."""


@dataclass(frozen=True, kw_only=True)
class CapacityOptions:
    """How to seek it.

    workload: None where the topology has one only. p99_ms: the bound (None: the workload's deadline). seeds: so many,
    from the topology's own on. within_percent: how near the next step up is to be. most: the largest load that is tried
    (None: 1,024 times the topology's own). executor: of the runs. calibrate: runs that say what things take, for
    simulations (none: two or three short real ones are made first, where profiles do not say it all). out: where the
    folder of all runs goes. resume: that folder, of an earlier search that was ended; what was run there is not run
    again.
    """

    workload: str | None = None
    p99_ms: float | None = None
    by: By = "devices"
    seeds: int = 3
    within_percent: float = 2.0
    most: float | None = None
    executor: str = SIMULATE
    calibrate: tuple[Path, ...] = ()
    out: Path = Path("capacities")
    resume: Path | None = None
    tell: Callable[[str], None] = lambda _: None


def capacity_of(given: TopologyFile, options: CapacityOptions) -> Capacity:
    """Seek it. Raises EdgebenchError, before the first run for what can be known then."""
    if options.seeds < 1:
        raise EdgebenchError(f"--seeds {options.seeds}: gives no run (give 1 or more)")
    if not 0 <= options.within_percent <= 100:
        raise EdgebenchError(f"--within-percent {options.within_percent:g}: is no share of the load (give 0 to 100)")
    check_folder("--out", options.out)
    if options.resume is not None and not any((options.resume / each).exists() for each in (CELLS, CAPACITY, MEASURED)):
        raise EdgebenchError(f"--resume {options.resume}: no search has left anything there (leave it out)")
    load = load_of(given, options)
    own = load.topology(load.own, given.topology.seed)
    _check(own, options)
    times = calibrated(own, options.calibrate) if options.calibrate else None
    with room_in(options.out, "make room, or name another folder with --out"):
        folder = options.resume or create_folder(options.out, f"{given.topology.name}-{load.workload}", utc_now())
    folder = folder.resolve()
    try:
        kept = f"what was run is kept; make room, and give the command again with --resume {folder}"
        with room_in(folder, kept, over=True):
            runner, notes = _runner(own, times, options, folder)
            seeds = [given.topology.seed + number for number in range(options.seeds)]
            found = Search(load, runner, options.executor, seeds, folder, options.tell, notes).found()
            write_page(found)
            return found
    finally:
        with contextlib.suppress(OSError):
            folder.rmdir()  # where there is nothing in it


def _check(given: TopologyFile, options: CapacityOptions) -> None:
    """Raises EdgebenchError for what cannot be run."""
    if options.executor == SIMULATE:
        refuse_learning(given, "what a workload holds is told by simulations")
        check_simulated(given)
        return
    if options.executor not in EXECUTORS:
        known = ", ".join((SIMULATE, *EXECUTORS))
        raise EdgebenchError(f"--executor {options.executor}: no such executor (known: {known})")
    if options.calibrate:
        raise EdgebenchError("--calibrate: real runs need none (leave it out, or --executor)")
    checked_deployment(given.topology, given.path, options.executor)


def _runner(
    given: TopologyFile, times: ServiceTimes | None, options: CapacityOptions, folder: Path
) -> tuple[Runner, list[str]]:
    """How the topology is run, and what is to be known of that; where neither runs nor profiles say what things take,
    it is measured."""
    registry = folder.parent / "registry"
    if options.executor != SIMULATE:
        return _Real(options.executor, registry), []
    runs = each_once(options.calibrate)
    if times is None:
        times = by_profiles_alone(given)
    if times is None:
        deployment = checked_deployment(given.topology, given.path, "local")
        runs = measured(given, deployment, KeptRuns(folder / MEASURED), registry, options.tell)
        times = calibrated(given, runs)
    return _Simulated(times, digests(runs)), list(times.doubts)


def load_of(given: TopologyFile, options: CapacityOptions) -> Load:
    """What is made larger and smaller. Raises EdgebenchError where there is nothing of the kind."""
    topology = given.topology
    name = _workload(given, options.workload)
    plan = topology.workloads[name]
    bound_ms = plan.deadline_ms if options.p99_ms is None else options.p99_ms
    if bound_ms is None:
        raise EdgebenchError(
            one_line(f"{given.path}: $.workloads.{name}: has no deadline to keep (give a bound: --p99-ms)")
        )
    if not (math.isfinite(bound_ms) and bound_ms > 0):
        raise EdgebenchError(f"--p99-ms {bound_ms:g}: is no bound (give milliseconds, more than 0)")
    whole = options.by == "devices"
    group = _group(given, name) if whole else None
    if group is not None:
        _refuse_named(given, group)
    own = _rate(given, name) if group is None else float(topology.nodes[group].count or 1)
    most = FARTHEST * own if options.most is None else options.most
    if not own <= most < math.inf:
        raise EdgebenchError(f"--most {most:g}: is below the topology's own load of {own:g} (give more)")
    if whole and most != int(most):
        raise EdgebenchError(f"--most {most:g}: is no number of devices (give a whole number)")
    # With hardly a sample on each device in all of the run there may be none at all, which says nothing.
    fewest = 1 if isinstance(topology.workloads[name].load, Fixed) else _FEWEST_BY_CHANCE
    least = max(1.0, own // FARTHEST) if whole else max(min(own, fewest / topology.duration_s), own / FARTHEST)
    scale = Scale(least, most, whole, options.within_percent / 100)
    return Load(given, name, options.by, group, float(bound_ms), own, scale)


def _workload(given: TopologyFile, name: str | None) -> str:
    workloads = given.topology.workloads
    if not workloads:
        raise EdgebenchError(f"{given.path}: has no workload (jobs, once they are placed: edgebench run)")
    if name is None:
        if len(workloads) == 1:
            return next(iter(workloads))
        raise EdgebenchError(f"{given.path}: has {listed(list(workloads))} (name one: --workload)")
    if name not in workloads:
        raise EdgebenchError(one_line(f"--workload {name}: no workload is called so{did_you_mean(name, workloads)}"))
    return name


def _group(given: TopologyFile, name: str) -> str:
    sources = given.topology.workloads[name].sources
    if len(sources) > 1:
        several = f"several groups feed it, {listed(sources)}"
        raise EdgebenchError(one_line(f"{given.path}: $.workloads.{name}.source: {several} (use --by rate)"))
    if sources[0] not in given.topology.nodes:
        raise EdgebenchError(one_line(f"{given.path}: $.workloads.{name}.source: no node '{sources[0]}'"))
    return sources[0]


def _refuse_named(given: TopologyFile, group: str) -> None:
    """Raises TopologyError where single devices of a group are named whose number is varied: others would not be where
    they are, and some would not be there."""
    topology, names = given.topology, {*names_of(given.topology, group)} - {group}
    at = [
        f"$.workloads.{name}.place.infer"
        for name, workload in topology.workloads.items()
        if isinstance(workload.place.infer, dict) and names & workload.place.infer.keys()
    ]
    at += [f"$.moves[{index}].node" for index, move in enumerate(topology.moves) if move.node in names]
    if at:
        why = f"names single devices of '{group}', whose number is to be varied (use --by rate)"
        raise TopologyError([one_line(f"{given.path}: {path}: {why}") for path in at])


def _rate(given: TopologyFile, name: str) -> float:
    load = given.topology.workloads[name].load
    if not isinstance(load, Fixed | Poisson | Server):
        kinds = "fixed, poisson and server loads have one"
        raise EdgebenchError(one_line(f"{given.path}: $.workloads.{name}.load: has no rate ({kinds}; or --by devices)"))
    return load.rate_hz


@dataclass(frozen=True)
class _Simulated:
    """measured: the digests of what tells the times."""

    times: ServiceTimes
    measured: list[str]

    def key(self, given: TopologyFile) -> str:
        return cell_key(check_simulated(given), given.topology, self.measured)

    def run(self, given: TopologyFile, out: Path) -> tuple[Path, Result]:
        return simulate_with(self.times, given, out, page="if not later")


@dataclass(frozen=True)
class _Real:
    """First models are trained once for all runs, which share a registry."""

    executor: str
    registry: Path

    def key(self, given: TopologyFile) -> str:
        return cell_key(checked_deployment(given.topology, given.path, self.executor), given.topology)

    def run(self, given: TopologyFile, out: Path) -> tuple[Path, Result]:
        return run_whole(given, RunOptions(out=out, executor=self.executor, registry=self.registry))
