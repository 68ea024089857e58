"""The figures of one run by their path in `result.json`, and what of them is drawn anew from blocks of its time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import msgspec
import numpy as np
from numpy.typing import NDArray

from edgebench.clock import NS_PER_S
from edgebench.results import stats
from edgebench.results.chunks import TIMES, chunks_of
from edgebench.results.comparison.resampling import Blocks, Interval, block_length
from edgebench.results.comparison.settings import link_group
from edgebench.results.comparison.time_slots import LATENCY, SlotFold, slots_filled, without_gaps
from edgebench.results.figures import Result
from edgebench.results.observations import Observations
from edgebench.results.rundir import StoredRun, record_batches
from edgebench.results.sample_figures import Latency, WorkloadFigures
from edgebench.results.sample_times import SampleTimes
from edgebench.seeds import rng_for
from edgebench.topology.deployment import Deployment

Values = dict[str, float | None]
Series = NDArray[np.float64]

_SHARES = {"p50": 0.5, "p90": 0.9, "p99": 0.99}
_MOST_SLOTS = 100
_FEWEST_SLOTS = 10
_SAMPLES_A_SLOT = 5


@dataclass(frozen=True)
class Drawn:
    """A figure of blocks drawn anew [resample]. blocks: how many fit into the run. narrow: as in `FigureDifference`."""

    values: Series
    block_s: float
    blocks: float
    narrow: bool


@dataclass
class RunValues:
    """Of one run. values: path -> figure. drawn: of those that are measured over time. intervals: that a figure has of
    itself. lacking: why a figure has neither, where that can be said."""

    values: Values
    drawn: dict[str, Drawn] = field(default_factory=dict)
    intervals: dict[str, Interval] = field(default_factory=dict)
    lacking: dict[str, str] = field(default_factory=dict)


def values_of(run: StoredRun, result: Result, purpose: str | None) -> RunValues:
    """Read a run. purpose: what its chance is for, so that no two runs that are compared share it; None: no blocks
    are drawn."""
    found = RunValues(figures_of(result, run.deployment))
    for name, each in result.workloads.items():
        if each.quality.interval is not None:
            found.intervals[f"workloads.{name}.quality.{each.quality.metric}"] = each.quality.interval
    folds = _slot_folds(run, result)
    for name, fold in folds.items():
        _add_p90(f"workloads.{name}", fold, found)
    if purpose is None:
        return found
    for name, fold in folds.items():
        _draw(f"workloads.{name}", fold, result.workloads[name], found, purpose)
    for name, federation in result.federated.items():
        times_s = np.array([each.duration_s for each in federation.rounds if each.duration_s is not None], np.float64)
        _draw_ratio(f"federated.{name}.round_s", times_s, np.ones(len(times_s)), times_s, found, purpose)
    for process, (cpu_s, took_s) in _cpu_of(run.observations).items():
        _draw_ratio(f"processes.{process}.busy_cores", cpu_s, took_s, took_s, found, purpose)
    return found


def figures_of(result: Result, deployment: Deployment) -> Values:
    """The figures of a run that can be compared, by their path; the p90 of hops is not among those of a result."""
    found: Values = {}
    for name, each in result.workloads.items():
        found |= {f"workloads.{name}.{path}": value for path, value in _of_workload(each)}
    for name, joint in result.joint.items():
        found |= {f"joint.{name}.{path}": value for path, value in _latency(joint.latency_ms)}
        found[f"joint.{name}.right"] = joint.right
    for name, federation in result.federated.items():
        held = [each for each in federation.rounds if not each.resumed]
        times_s = [each.duration_s for each in held if each.duration_s is not None]
        found |= {
            f"federated.{name}.rounds": len(held),
            f"federated.{name}.round_s": float(np.mean(times_s)) if times_s else None,
            f"federated.{name}.failures": sum(each.failures for each in held),
            f"federated.{name}.bytes_up": _sum([each.bytes_up for each in held]),
            f"federated.{name}.bytes_down": _sum([each.bytes_down for each in held]),
            f"federated.{name}.quality_after.{federation.metric}": federation.quality_after,
        }
    pairs: dict[str, list[str]] = {}
    for link in result.links:
        pairs.setdefault(link_group(link, deployment), []).append(link)
    for pair, links in pairs.items():
        for what in ("up_bytes", "down_bytes"):
            found[f"links.{pair}.{what}"] = _sum([getattr(result.links[link], what) for link in links])
    for process, used in result.processes.items():
        for what in ("busy_cores", "cpu_s", "rss_mb"):
            found[f"processes.{process}.{what}"] = getattr(used, what)
    return found


def _of_workload(figures: WorkloadFigures) -> Iterator[tuple[str, float | None]]:
    yield "throughput_hz", figures.throughput_hz
    yield from _latency(figures.latency_ms)
    yield "lost_percent", _percent(figures.lost, figures.scheduled)
    if figures.deadline_ms is not None:
        yield "late_percent", _percent(figures.late, figures.scheduled)
    yield f"quality.{figures.quality.metric}", figures.quality.value
    yield "sample_bytes", figures.sample_bytes
    if figures.hops_ms is not None:
        for hop, took_ms in msgspec.structs.asdict(figures.hops_ms).items():
            for name in ("mean", *_SHARES) if took_ms is not None else ():
                if hasattr(took_ms, name):
                    yield f"hops_ms.{hop}.{name}", getattr(took_ms, name)


def _latency(latency: Latency | None) -> Iterator[tuple[str, float | None]]:
    for name in ("mean", *_SHARES):
        yield f"latency_ms.{name}", None if latency is None else getattr(latency, name)


def _percent(part: int, whole: int) -> float | None:
    return stats.rounded(100 * part / whole) if whole else None


def _sum(counts: list[int | None]) -> int | None:
    known = [count for count in counts if count is not None]
    return sum(known) if known else None


def _slot_folds(run: StoredRun, result: Result) -> dict[str, SlotFold]:
    """Of those workloads that have enough decisions; the records are read once, a chunk at a time."""
    start_ns = run.observations.started_ns
    if start_ns is None:
        return {}
    folds = {}
    for name, figures in result.workloads.items():
        slots = min(_MOST_SLOTS, figures.decided // _SAMPLES_A_SLOT)
        if slots >= _FEWEST_SLOTS and figures.throughput_hz:
            span_ns = figures.decided / figures.throughput_hz * NS_PER_S  # what the throughput is over
            folds[name] = SlotFold(start_ns, span_ns / slots, slots, figures.deadline_ms)
    times = SampleTimes(run.deployment, run.observations)
    for name, chunk in chunks_of(record_batches(run.path, TIMES), folds, run.deployment.heads_on_devices):
        folds[name].update(times.on_server(chunk))
    return folds


def _draw(path: str, fold: SlotFold, figures: WorkloadFigures, found: RunValues, purpose: str) -> None:
    """Draw blocks of a workload's time, the same for all of its figures."""
    slots = len(fold.scheduled)
    latency = fold.spread[LATENCY]
    block = max(block_length(fold.arrived), block_length(without_gaps(latency.sum_ms, latency.count)))
    most = slots // _FEWEST_SLOTS
    length = min(block, most)
    blocks = Blocks(slots, length, rng_for(0, "compare", purpose, path))

    def keep(figure: str, values: Series) -> None:
        found.drawn[f"{path}.{figure}"] = Drawn(values, length * fold.slot_s, slots / length, block > most)

    keep("throughput_hz", blocks.ratio(fold.arrived, np.full(slots, fold.slot_s)))
    if slots_filled(fold.scheduled) < _FEWEST_SLOTS:
        why = "its samples were all due in too short a time"
        found.lacking |= dict.fromkeys((name for name in found.values if name.startswith(f"{path}.")), why)
        return
    keep("lost_percent", 100 * blocks.ratio(fold.scheduled - fold.decided, fold.scheduled))
    if figures.deadline_ms is not None:
        keep("late_percent", 100 * blocks.ratio(fold.late, fold.scheduled))
    enough = {name: stats.samples_needed(0, percentile=share) <= figures.decided for name, share in _SHARES.items()}
    for name, spread in fold.spread.items():
        prefix = "latency_ms" if name == LATENCY else f"hops_ms.{name}"
        keep(f"{prefix}.mean", blocks.ratio(spread.sum_ms, spread.count))
        drawn = blocks.percentiles(*spread.table(), tuple(_SHARES.values()))
        for place, (percentile, is_enough) in enumerate(enough.items()):
            if is_enough:
                keep(f"{prefix}.{percentile}", drawn[:, place])
            else:
                needed = stats.samples_needed(0, percentile=_SHARES[percentile])
                found.lacking[f"{path}.{prefix}.{percentile}"] = f"fewer than {needed} decided samples"


def _add_p90(path: str, fold: SlotFold, found: RunValues) -> None:
    """The p90 of hops; where a hop has no other figure, too little is known of it."""
    for hop in (name for name in fold.spread if name != LATENCY):
        figure = f"{path}.hops_ms.{hop}"
        if found.values[f"{figure}.p50"] is not None:
            counts, values = fold.spread[hop].table()
            upto = np.cumsum(counts.sum(axis=0, dtype=np.float64))
            found.values[f"{figure}.p90"] = float(values[np.searchsorted(upto, np.ceil(round(0.9 * upto[-1], 6)))])


def _draw_ratio(figure: str, of: Series, to: Series, took_s: Series, found: RunValues, purpose: str) -> None:
    """Draw blocks of what was measured one after the other, each of which took so long."""
    if len(of) < _FEWEST_SLOTS:
        found.lacking[figure] = f"fewer than {_FEWEST_SLOTS} measurements"
        return
    block, most = block_length(of / to), len(of) // _FEWEST_SLOTS
    length = min(block, most)
    blocks = Blocks(len(of), length, rng_for(0, "compare", purpose, figure))
    drawn = blocks.ratio(of, to)
    found.drawn[figure] = Drawn(drawn, length * float(took_s.mean()), len(of) / length, block > most)


def _cpu_of(observations: Observations) -> Mapping[str, tuple[Series, Series]]:
    """CPU s of each process while samples were due, and in how many s, from one look at it to the next [look]."""
    found = {}
    until_ns = observations.ended_ns
    for process, usage in observations.usage.items():
        during = [
            each
            for each in usage
            if each.at_ns >= (observations.started_ns or 0) and (until_ns is None or each.at_ns <= until_ns)
        ]
        took_s = np.diff([each.at_ns for each in during]) / NS_PER_S
        found[process] = (np.diff([each.cpu_s for each in during])[took_s > 0], took_s[took_s > 0])
    return found
