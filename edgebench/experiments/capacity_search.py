"""The search for the largest load at which a workload keeps a bound: what is run at each load, and what that says."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from edgebench.errors import EdgebenchError
from edgebench.experiments.cells import KeptRuns
from edgebench.experiments.given import TopologyFile, with_overrides
from edgebench.experiments.load_search import Limit, Scale, gaps, limit_of
from edgebench.experiments.places import NoRoomError
from edgebench.report.wording import ms
from edgebench.results import stats
from edgebench.results.capacities import By, Capacity, LoadPoint, LoadRun
from edgebench.results.figures import Result
from edgebench.results.rundir import write_json
from edgebench.results.sample_figures import WorkloadFigures
from edgebench.results.tolerances import FULL_SHARE
from edgebench.topology.deployment import SIMULATE
from edgebench.topology.model import Server, Topology
from edgebench.topology.wording import things

CAPACITY = "capacity.json"
CURVE = (0.25, 0.5, 0.75, 0.9, 1.1, 1.25)
"""Shares of the limit that are simulated besides what the search tried, for the curve."""
TRIES = 3
"""So often a run is made at most, where it is spoiled by what is no matter of the load."""
_OF_THE_LOAD = frozenset({"load", "delivery"})
_OF_A_FULL_MACHINE = frozenset({"host", "emulation"})
_OF_WHAT_LOSES = frozenset({"federation", "model", "part", "run"})
"""What follows where samples are lost, too: whatever is killed for want of memory, or comes to no end."""
_UNDER_WAY = "it was interrupted, or is under way"


class Runner(Protocol):
    """Runs a topology, for real or in virtual time."""

    def key(self, given: TopologyFile) -> str:
        """Of all that decides what is run. Raises EdgebenchError where it cannot be run."""

    def run(self, given: TopologyFile, out: Path) -> tuple[Path, Result]:
        """A run directory, and the figures, of a topology that has a key. Raises EdgebenchError."""


@dataclass(frozen=True)
class Load:
    """What is made larger and smaller. own: as the topology has it."""

    given: TopologyFile
    workload: str
    by: By
    group: str | None
    bound_ms: float
    own: float
    scale: Scale

    def topology(self, load: float, seed: int) -> TopologyFile:
        """The topology at a load; the bound is the workload's deadline, so that runs count what is over it."""
        path = f"workloads.{self.workload}"
        changes = [f"{path}.deadline_ms={self.bound_ms!r}", f"seed={seed}"]
        if isinstance(self.given.topology.workloads[self.workload].load, Server):
            changes.append(f"{path}.load.p99_ms={self.bound_ms!r}")
        if load != self.own:  # a node that is alone is called after its group, and the first of several is not
            at = f"nodes.{self.group}.count={load:.0f}" if self.by == "devices" else f"{path}.load.rate_hz={load!r}"
            changes.append(at)
        return with_overrides(self.given, changes)

    def told(self, load: float) -> str:
        """In words."""
        return things(int(load), "device") if self.by == "devices" else f"{load:g} Hz"


class Search:
    """Runs, and what came of them so far, which is written after each load. Each run is made once in its folder."""

    def __init__(
        self,
        load: Load,
        runner: Runner,
        executor: str,
        seeds: Sequence[int],
        folder: Path,
        tell: Callable[[str], None],
        notes: Sequence[str] = (),
    ) -> None:
        self._load = load
        self._runner = runner
        self._executor = executor
        self._seeds = list(seeds)
        self._folder = folder
        self._kept = KeptRuns(folder)
        self._tell = tell
        self._notes = list(notes)
        self._points: dict[float, LoadPoint] = {}
        self._last: Result | None = None

    def found(self) -> Capacity:
        """The limit. Raises EdgebenchError where something went wrong before any load was known to hold."""
        ended = None
        try:
            limit = limit_of(self._holds, self._load.own, self._load.scale)
        except NoRoomError:
            raise
        except EdgebenchError as error:
            limit, ended = self._so_far(), str(error)
            if limit.holds is None:
                raise
        except KeyboardInterrupt:
            if self._points:
                self._tell(f"what is known so far is in {self._folder / CAPACITY} (go on: --resume {self._folder})")
            raise
        around = limit.holds or limit.fails
        if self._executor == SIMULATE and ended is None and around is not None:
            for more in gaps(list(self._points), around, CURVE, self._load.scale):
                try:
                    self._holds(more, limit)
                except NoRoomError:
                    raise
                except EdgebenchError as error:
                    self._notes.append(f"not in the curve, {error}")
        return self._write(limit, ended)

    def _so_far(self) -> Limit:
        held = max((load for load, point in self._points.items() if point.holds), default=None)
        failed = (load for load, point in self._points.items() if not point.holds)
        return Limit(held, min((load for load in failed if held is None or load > held), default=None))

    def _write(self, limit: Limit, ended: str | None) -> Capacity:
        load, last = self._load, self._last
        assert last is not None
        found = Capacity(
            schema=1,
            topology=load.given.topology.name,
            workload=load.workload,
            by=load.by,
            group=load.group,
            sites=_sites(load.given.topology, load.group),
            bound_ms=load.bound_ms,
            executor=self._executor,
            figures=last.figures,
            seeds=self._seeds,
            within_percent=round(100 * load.scale.within, 6),
            limit=limit.holds,
            next=limit.fails,
            ended=ended,
            metric=last.workloads[load.workload].quality.metric,
            curve=[self._points[each] for each in sorted(self._points)],
            folder=str(self._folder),
            calibrated_by=last.calibrated_by,
            notes=self._notes,
        )
        write_json(self._folder / CAPACITY, found)
        return found

    def _holds(self, load: float, limit: Limit | None = None) -> bool:
        """Run it with each seed; real runs until one does not hold. limit: where it is known already."""
        runs: list[LoadRun] = []
        figures: list[WorkloadFigures] = []
        for seed in self._seeds:
            try:
                run_dir, self._last, spoiled = self._run(load, seed)
            except NoRoomError:  # which another load would not find either
                raise
            except EdgebenchError as error:
                told = f"at {self._load.told(load)}: {error}"
                if any(each.against for each in runs):  # which is enough
                    self._notes.append(f"one seed less, {told}")
                    break
                if load == self._load.own:
                    raise
                raise EdgebenchError(told) from error
            of = self._last.workloads[self._load.workload]
            figures.append(of)
            runs.append(_load_run(seed, run_dir, self._last, of, self._load.bound_ms, spoiled))
            if runs[-1].against and self._executor != SIMULATE:
                break
        point = _point(load, runs, figures, self._load.given.topology.duration_s)
        self._points[load] = point
        self._write(self._so_far() if limit is None else limit, _UNDER_WAY)
        failed = next(((each.seed, why) for each in runs for why in each.against), None)
        against = "" if failed is None else f", does not hold, with seed {failed[0]}: {failed[1]}"
        mean = "mean p99" if len(runs) > 1 else "p99"
        self._tell(f"{self._load.told(load)}: {mean} {ms(point.p99_ms)} ms{against}")
        return point.holds

    def _run(self, load: float, seed: int) -> tuple[Path, Result, dict[str, str]]:
        """A run that says something of the load, and those before it that did not: its directory -> why."""
        given = self._load.topology(load, seed)
        key = self._runner.key(given)
        kept = self._kept.find(key)
        if kept is not None:
            return kept
        spoiled: dict[str, str] = {}
        while len(spoiled) < TRIES:
            run_dir, result = self._runner.run(given, self._folder)
            why = spoiled_by(result)
            if why is None:
                self._kept.keep(key, run_dir, spoiled)
                return run_dir, result, spoiled
            spoiled[run_dir.name] = why
            self._tell(f"{self._load.told(load)}, seed {seed}: says nothing of the load: {why}")
        no_matter = "were spoiled by what is no matter of the load, the last"
        raise EdgebenchError(f"seed {seed}: {TRIES} runs {no_matter}: {why}")


def spoiled_by(result: Result) -> str | None:
    """Why a run says nothing of the load that it had, and should be made again.

    That samples are lost, or are taken too late, may be due to the load, and so may what a machine that is full does.
    A simulation comes out the same each time.
    """
    if result.executor == SIMULATE:
        return None
    uses = (machine.host_use for machine in result.machines.values())
    full = any(use is not None and use.full > FULL_SHARE for use in uses)
    verdict = result.verdict
    of_the_load = _OF_THE_LOAD | (_OF_A_FULL_MACHINE if full else frozenset())
    if "delivery" in verdict.kinds:
        of_the_load |= _OF_WHAT_LOSES
    # Results of before reasons had kinds say none.
    reasons = zip(verdict.kinds, verdict.reasons, strict=False)
    return next((reason for kind, reason in reasons if kind not in of_the_load), None)


def _load_run(
    seed: int, run_dir: Path, result: Result, figures: WorkloadFigures, bound_ms: float, spoiled: dict[str, str]
) -> LoadRun:
    latency = figures.latency_ms
    late = latency is not None and latency.p99 > bound_ms
    over = [f"p99 {ms(latency.p99)} ms is more than {bound_ms:g} ms"] if late and latency is not None else []
    return LoadRun(
        seed=seed,
        run=run_dir.name,
        decided=figures.decided,
        lost=figures.lost,
        over=figures.late,
        mean_ms=None if latency is None else latency.mean,
        p50_ms=None if latency is None else latency.p50,
        p99_ms=None if latency is None else latency.p99,
        throughput_hz=figures.throughput_hz,
        quality=figures.quality.value,
        sure=figures.decided >= stats.samples_needed(figures.late),
        against=[*over, *result.verdict.reasons],
        spoiled=spoiled,
    )


def _point(load: float, runs: list[LoadRun], figures: list[WorkloadFigures], duration_s: float) -> LoadPoint:
    p99s = [each.p99_ms for each in runs if each.p99_ms is not None]
    return LoadPoint(
        load=load,
        holds=not any(each.against for each in runs),
        offered_hz=stats.rounded(float(np.mean([each.scheduled for each in figures])) / duration_s),
        throughput_hz=stats.rounded(float(np.mean([each.throughput_hz for each in runs]))),
        p50_ms=_mean([each.p50_ms for each in runs]),
        p99_ms=_mean([each.p99_ms for each in runs]),
        p99_most_ms=max(p99s, default=None),
        quality=_mean([each.quality for each in runs]),
        runs=runs,
    )


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return stats.rounded(float(np.mean(known))) if known else None


def _sites(topology: Topology, group: str | None) -> int | None:
    """How many nodes a group's devices are dealt round."""
    parent = None if group is None else topology.nodes[group].parent
    return None if parent is None else topology.nodes[parent].count or 1
