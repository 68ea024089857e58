"""`edgebench compare`: what runs differ in, from their run directories."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgebench.errors import EdgebenchError
from edgebench.results.comparison.figures import (
    LEVEL,
    SCHEMA,
    By,
    Comparison,
    FigureDifference,
    Method,
    RunCompared,
    Shown,
    SideCompared,
)
from edgebench.results.comparison.resampling import RESAMPLES, Interval, middle, of_intervals, of_runs
from edgebench.results.comparison.run_values import RunValues, values_of
from edgebench.results.comparison.settings import (
    host_of,
    key_of,
    models_of,
    plain_differences,
    topology_differences,
    topology_of,
    versions_of,
)
from edgebench.results.figures import Result
from edgebench.results.rundir import StoredRun, load_deployment, load_run, read_result
from edgebench.results.stats import rounded

_NAMES = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_ONE_RUN = "one figure a run: give several runs a side"
_FEW_RUNS = "known of one run a side only"


@dataclass(frozen=True)
class _Run:
    """A run as it was read: what it was, and its figures."""

    compared: RunCompared
    stored: StoredRun
    result: Result
    topology: dict[str, Any]


Side = list[_Run]


def compare(folders: Sequence[Path]) -> Comparison:
    """Compare runs: the first, and those like it, with each of the others.

    Sides are told apart by the topology (but for the seed); where that is the same, by versions, then by host; where
    these are, too, each run is a side. Raises EdgebenchError where a folder is no run, or was cut off.
    """
    # Named in two ways, it is one run all the same: as two it would seem to show how little runs differ.
    named: dict[Path, Path] = {}
    for folder in folders:
        named.setdefault(folder.resolve(), folder)
    if len(named) < 2:
        for folder in named.values():
            load_deployment(folder)  # which says where one is, if this is none
        one = f", and {folders[0]} is one, however often it is named" if len(folders) > 1 else ""
        raise EdgebenchError(f"compare: needs two runs{one} (name their run directories)")
    by, found = _sides([_read(folder) for folder in named.values()])
    if len(found) > len(_NAMES):
        raise EdgebenchError(f"compare: of {len(found)} different runs (at most {len(_NAMES)} can be told apart)")
    sides = dict(zip(_NAMES, found, strict=False))
    values = {name: _values_of(name, runs) for name, runs in sides.items()}
    first, *others = sides
    return Comparison(
        schema=SCHEMA,
        level=LEVEL,
        resamples=RESAMPLES,
        sides_by=by,
        sides=[SideCompared(name, [run.compared for run in runs]) for name, runs in sides.items()],
        topology=topology_differences(
            {name: (runs[0].stored.deployment, runs[0].topology) for name, runs in sides.items()}
        ),
        versions=plain_differences(
            {
                name: [{**versions_of(run.result), **models_of(run.result)} for run in runs]
                for name, runs in sides.items()
            }
        ),
        host=plain_differences({name: [host_of(run.result) for run in runs] for name, runs in sides.items()}),
        only=_only(values),
        against={name: _against(values[first], values[name]) for name in others},
    )


def _read(folder: Path) -> _Run:
    stored = load_run(folder)
    result = read_result(folder)
    compared = RunCompared(
        folder=str(folder),
        run_id=result.run_id,
        name=result.name,
        seed=result.seed,
        executor=result.executor,
        figures=result.figures,
        valid=result.verdict.valid,
        reasons=result.verdict.reasons,
    )
    return _Run(compared, stored, result, topology_of(stored.deployment, folder))


def _values_of(name: str, side: Side) -> list[RunValues]:
    """One run is drawn from to know how far chance goes; several tell themselves."""
    purpose = name if len(side) == 1 else None
    return [values_of(run.stored, run.result, purpose) for run in side]


def _sides(runs: list[_Run]) -> tuple[By, list[Side]]:
    """What tells the runs apart, and those that are alike in it, in the order in which they were named."""
    levels: dict[By, Callable[[_Run], object]] = {
        "topology": lambda run: run.topology,
        "versions": lambda run: versions_of(run.result),
        "host": lambda run: host_of(run.result),
    }
    for by, told in levels.items():
        sides: dict[bytes, Side] = {}
        for run in runs:
            sides.setdefault(key_of(told(run)), []).append(run)
        if len(sides) > 1:
            return by, list(sides.values())
    return "run", [[run] for run in runs]


def _only(values: Mapping[str, list[RunValues]]) -> dict[str, list[str]]:
    """What is not known of all sides: a whole workload, say, or a figure -> those that have it."""
    paths = {name: {path for run in runs for path in run.values if _known(path, runs)} for name, runs in values.items()}
    wholes = {name: {_whole(path) for path in each} for name, each in paths.items()}
    found: dict[str, list[str]] = {}
    for path in dict.fromkeys(path for runs in values.values() for run in runs for path in run.values):
        for what, having in ((_whole(path), wholes), (path, paths)):
            sides = [name for name, each in having.items() if what in each]
            if 0 < len(sides) < len(values):
                found[what] = sides
                break
    return found


def _whole(path: str) -> str:
    """The workload, federation, link or process that a figure is of."""
    return ".".join(path.split(".")[:2])


def _against(first: list[RunValues], other: list[RunValues]) -> list[FigureDifference]:
    """Those figures that both sides have, in the order of the first."""
    both = [path for path in dict.fromkeys(path for run in first for path in run.values) if _known(path, other)]
    return [_difference(path, first, other) for path in both if _known(path, first)]


def _known(path: str, side: list[RunValues]) -> list[float]:
    """What the runs of a side have of a figure."""
    return [value for run in side if (value := run.values.get(path)) is not None]


def _difference(path: str, first: list[RunValues], other: list[RunValues]) -> FigureDifference:
    in_first, in_other = _known(path, first), _known(path, other)
    before, after = float(np.mean(in_first)), float(np.mean(in_other))

    def told(interval: Interval | None, **how: Any) -> FigureDifference:
        return FigureDifference(
            figure=path,
            first=rounded(before),
            other=rounded(after),
            difference=rounded(after - before),
            percent=rounded(100 * (after - before) / abs(before)) if before else None,
            interval=None if interval is None else (rounded(interval[0]), rounded(interval[1])),
            shown=_shown(interval),
            **how,
        )

    if len(first) > 1 or len(other) > 1:
        # A side of one run is compared by the spread of the other's.
        interval = of_runs(in_first, in_other)
        by: Method | None = None if interval is None else "runs"
        return told(interval, by=by, why=_FEW_RUNS if interval is None else "")
    (one,), (two,) = first, other
    if path in one.drawn and path in two.drawn:
        drawn = one.drawn[path], two.drawn[path]
        return told(
            middle(drawn[1].values - drawn[0].values, min(each.blocks for each in drawn)),
            by="time blocks",
            blocks_s=(drawn[0].block_s, drawn[1].block_s),
            narrow=any(each.narrow for each in drawn),
        )
    if path in one.intervals and path in two.intervals:
        interval = of_intervals(before, one.intervals[path], after, two.intervals[path])
        return told(interval, by="intervals")
    why = one.lacking.get(path) or two.lacking.get(path) or _ONE_RUN
    return told(None, why=why)


def _shown(interval: Interval | None) -> Shown:
    if interval is None:
        return "no interval"
    low, high = interval
    if low <= 0 <= high:
        return "no difference shown"
    return "higher" if low > 0 else "lower"
