"""The figures of one workload, from what was folded of its samples."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from typing import Literal

from edgebench.clock import NS_PER_S
from edgebench.core.tallies import Tally
from edgebench.fabric.records import Cut, ModelEvent
from edgebench.results import stats
from edgebench.results.chunks import HEAD_HOPS, decides_at_random, latency_of, ms
from edgebench.results.clock_tracks import UNKNOWN_NS
from edgebench.results.observations import Observations
from edgebench.results.sample_figures import (
    Adequacy,
    Age,
    Bound,
    ChainFigures,
    CutFigures,
    Hops,
    HopStatistics,
    ModelUse,
    Quality,
    Slip,
    Validated,
    WorkloadFigures,
)
from edgebench.results.timeline import since_start_s
from edgebench.results.tolerances import HOP_BOUND_MS, HOP_BOUND_SHARE, slip_limit_ms
from edgebench.results.workload_fold import WorkloadFold, bound_ms
from edgebench.tasks import task_named
from edgebench.tasks.task import Task
from edgebench.topology.deployment import Deployment, is_simulated
from edgebench.topology.model import Offline, Server

_MOST_FOR_INTERVAL = 100_000
_FROM_EDGE = ("edge_forward", "backhaul_up", "decode", "queue", "infer")
_IN_CHAIN = {"edge": (*HEAD_HOPS, *_FROM_EDGE), "device": (*HEAD_HOPS, "uplink", *_FROM_EDGE)}
"""The hops of a chain from its first stage to its decision, by who has that."""


def workload_figures(fold: WorkloadFold, deployment: Deployment, observations: Observations) -> WorkloadFigures:
    """The figures of a workload."""
    plan = fold.plan
    tallies = {
        node: of_node[plan.name] for node, of_node in sorted(observations.tallies.items()) if plan.name in of_node
    }
    scheduled = _scheduled(fold, tallies)
    latency = latency_of(fold.latency_ns)
    rejected = counted(tally.rejected for tally in tallies.values())
    dropped = counted(tally.dropped for tally in tallies.values())
    bound = (
        Bound(plan.load.p99_ms, latency is not None and latency.p99 <= plan.load.p99_ms)
        if isinstance(plan.load, Server) and plan.paced_by is None
        else None
    )
    return WorkloadFigures(
        task=plan.task,
        place=plan.place,
        scheduled=scheduled,
        decided=fold.decided,
        lost=scheduled - fold.decided,
        duplicated=sum(tally.duplicated for tally in tallies.values()),
        # What came out of order at an edge or the cloud is decided so, and counts when its decision reaches the device.
        reordered=sum(tallies[node].reordered for node in plan.sources if node in tallies),
        rejected=sum(rejected.values()),
        late=fold.late,
        latency_ms=latency,
        hops_ms=Hops(**{hop: _hop(fold, hop) for hop in fold.hops_ns}) if fold.decided else None,
        throughput_hz=_throughput_hz(fold, observations),
        quality=_quality(fold, None, deployment, observations),
        models=_models(fold, deployment, observations),
        load=str(plan.load.__struct_config__.tag) if plan.paced_by is None else f"with {plan.paced_by}",
        deadline_ms=plan.deadline_ms,
        dropped=sum(dropped.values()),
        unexpected=sum(tally.unexpected for tally in tallies.values()),
        plain_json=sum(tally.plain_json for tally in tallies.values()),
        duplicated_at_devices=sum(tallies[node].duplicated for node in plan.sources if node in tallies),
        rejected_by_reason=rejected,
        dropped_by_reason=dropped,
        slip_ms=_slip(fold),
        adequacy=_adequacy(fold),
        bound=bound,
        mean_batch=stats.rounded(fold.batch_sum / fold.batches) if fold.batches else None,
        compress=None if plan.compress is None else f"JPEG {plan.compress.quality}",
        sample_bytes=stats.rounded(fold.size_bytes / fold.samples) if fold.samples else None,
        cascade=None if fold.cascade is None else fold.cascade.figures(),
        not_finite=fold.not_finite.total(),
        undisturbed=None
        if fold.undisturbed is None
        else fold.undisturbed.figures(observations.started_ns, end_ns_of(fold, observations)),
        age_ms=_age(fold),
        repeated=sum(tally.repeated for tally in tallies.values()),
        outlived=sum(tally.outlived for tally in tallies.values()),
        missed=sum(tally.missed for tally in tallies.values()),
        chain=_chain(fold, observations),
        decided_by=None if plan.online is None else _by_tier(fold, deployment),
    )


def _by_tier(fold: WorkloadFold, deployment: Deployment) -> dict[str, int]:
    found: dict[str, int] = {"edge": 0, "cloud": 0}
    for decider, count in fold.by_decider.items():
        found[deployment.nodes[decider].tier] += count
    return found


def end_ns_of(fold: WorkloadFold, observations: Observations) -> int | None:
    """When a workload was over: with the streams, or its last arrival where that is later; an offline load ends with
    its last arrival. None where it is not known."""
    ends = [fold.arrived_ns.most, None if isinstance(fold.plan.load, Offline) else observations.ended_ns]
    return max((end_ns for end_ns in ends if end_ns is not None), default=None)


def due_until_ns(fold: WorkloadFold, observations: Observations) -> int | None:
    """Until when samples of a workload were due: to the end of the streams; those of an offline load wait for their
    turn until the last has its decision. None where it is not known."""
    if isinstance(fold.plan.load, Offline) or observations.ended_ns is None:
        return fold.arrived_ns.most
    return observations.ended_ns


def counted(counts: Iterable[dict[str, int]]) -> dict[str, int]:
    """The sums of counts by reason, without those that are 0."""
    total: Counter[str] = Counter()
    for each in counts:
        total.update(each)
    return {reason: count for reason, count in sorted(total.items()) if count}


def _scheduled(fold: WorkloadFold, tallies: dict[str, Tally]) -> int:
    """Rows, and the samples that a device counted but did not live to write down."""
    nodes = {*fold.rows, *tallies}
    return sum(max(fold.rows[node], tallies[node].scheduled if node in tallies else 0) for node in nodes)


def _hop(fold: WorkloadFold, hop: str) -> HopStatistics:
    ns = fold.hops_ns[hop]
    p50, p99 = ns.percentiles(0.5, 0.99)
    found = HopStatistics(p50=ms(p50), p99=ms(p99), mean=stats.rounded(ms(ns.mean)))
    bound = fold.hop_bounds_ns.get(hop)
    return found if bound is None or bound.most is None else known_within(found, bound.most)


def known_within(found: HopStatistics, bound_ns: int) -> HopStatistics:
    """The figures of a hop between two machines, without those of which too little is known."""
    bound_ms = ms(bound_ns)

    def known(figure_ms: float | None) -> float | None:
        off = figure_ms is None or bound_ms > max(HOP_BOUND_MS, HOP_BOUND_SHARE * figure_ms)
        return None if off else figure_ms

    told_ms = None if bound_ns >= UNKNOWN_NS else stats.rounded(bound_ms)
    return HopStatistics(known(found.p50), known(found.p99), known(found.mean), told_ms)


def _chain(fold: WorkloadFold, observations: Observations) -> ChainFigures | None:
    chained = next((each for each in observations.chains if each.workload == fold.plan.name), None)
    if chained is None:
        return None
    hops = _IN_CHAIN[fold.plan.head_tier]
    means = [_hop(fold, hop).mean for hop in hops] if all(hop in fold.hops_ns for hop in hops) else []
    known = [mean for mean in means if mean is not None]
    return ChainFigures(
        cut=None if chained.cut is None else _cut(chained.cut),
        places=chained.places,
        considered=[_cut(each) for each in chained.considered],
        measured_ms=stats.rounded(sum(known)) if known and len(known) == len(means) else None,
        mean_head_batch=stats.rounded(fold.head_batch_sum / fold.head_batches) if fold.head_batches else None,
        head_tier=fold.plan.head_tier,
    )


def _cut(cut: Cut) -> CutFigures:
    return CutFigures(
        place=cut.place,
        layer=cut.layer,
        output_bytes=cut.values * 4,
        head_ms=stats.rounded(cut.head_ms),
        tail_ms=stats.rounded(cut.tail_ms),
        predicted_ms=None if cut.predicted_ms is None else stats.rounded(cut.predicted_ms),
    )


def _slip(fold: WorkloadFold) -> Slip | None:
    if not len(fold.slip_ns):
        return None
    p50, p95, p99, most = fold.slip_ns.percentiles(0.5, 0.95, 0.99, 1.0)
    limit = slip_limit_ms(fold.plan.deadline_ms)
    return Slip(p50=ms(p50), p95=ms(p95), p99=ms(p99), max=ms(most), limit=limit, over=fold.slipped)


def _age(fold: WorkloadFold) -> Age | None:
    if not len(fold.age_ns):
        return None
    p50, p99, most = fold.age_ns.percentiles(0.5, 0.99, 1.0)
    return Age(n=len(fold.age_ns), p50=ms(p50), p99=ms(p99), max=ms(most))


def _adequacy(fold: WorkloadFold) -> Adequacy | None:
    if not fold.decided:
        return None
    needed = stats.samples_needed(fold.over)
    upper_ns = fold.latency_ns.upper_bound()
    return Adequacy(
        confidence=stats.CONFIDENCE,
        bound_ms=bound_ms(fold.plan),
        over=fold.over,
        needed=needed,
        adequate=fold.decided >= needed,
        p99_upper_ms=None if upper_ns is None else ms(upper_ns),
    )


def _throughput_hz(fold: WorkloadFold, observations: Observations) -> float:
    """Decisions over the time from the start of the streams to the end of the workload."""
    start_ns = observations.started_ns if observations.started_ns is not None else fold.scheduled_ns.least
    end_ns = end_ns_of(fold, observations)
    if start_ns is None or end_ns is None:
        return 0.0
    return stats.rounded(fold.decided * NS_PER_S / (end_ns - start_ns)) if end_ns > start_ns else 0.0


def _quality(fold: WorkloadFold, digest: str | None, deployment: Deployment, observations: Observations) -> Quality:
    """Of the decisions of one model, or of all."""
    task = task_named(fold.plan.task)
    scored = fold.scores.of(digest)
    known = fold.scores.known.total() if digest is None else fold.scores.known[digest]
    undefined = _undefined(fold, digest, known, deployment, observations)
    if undefined is None and not len(scored):
        undefined = f"none of its {known:,} decisions is among the even share of all that is kept"
    metrics: dict[str, float | None] = {}
    interval: tuple[float, float] | None = None
    if undefined is None:
        metrics = {name: _defined(value) for name, value in task.score(scored.outputs, scored.labels).items()}
        if metrics.get(task.metric) is None:
            undefined = f"{task.metric} has no value for these labels"
        elif len(scored) <= _MOST_FOR_INTERVAL:
            low, high = task.intervals(scored.outputs, scored.labels, seed=deployment.seed)[task.metric]
            interval = (round(low, 6), round(high, 6)) if math.isfinite(low) and math.isfinite(high) else None
    source, real = _source(fold, observations)
    return Quality(
        metric=task.metric,
        value=metrics.get(task.metric),
        n=known,
        interval=interval,
        source=source,
        real=real,
        metrics=metrics,
        scored=len(scored),
        undefined=undefined,
    )


def _source(fold: WorkloadFold, observations: Observations) -> tuple[str, bool]:
    """Where what was decided comes from, and whether none of it was generated."""
    workload = fold.plan.name
    source, real = observations.data_sources.get(workload, "unknown"), workload in observations.real_data
    live = [node for node in fold.plan.sources if workload in observations.sensors.get(node, {})]
    if not live:
        return source, real
    return ("live sensors", True) if len(live) == len(fold.plan.sources) else (f"{source} and live sensors", real)


def _undefined(
    fold: WorkloadFold, digest: str | None, known: int, deployment: Deployment, observations: Observations
) -> str | None:
    """Why there is nothing to score, or it would mean nothing."""
    if is_simulated(deployment):
        return "a simulation tells when something is decided, and not what"
    if decides_at_random(fold.plan.name, observations):
        return "a fake model decides at random"
    count = fold.not_finite.total() if digest is None else fold.not_finite[digest]
    if count:
        decided = fold.decided if digest is None else fold.by_digest[digest]
        return f"{count:,} of {decided:,} decisions are not finite numbers"
    if known:
        return None
    live = any(fold.plan.name in of_node for of_node in observations.sensors.values())
    return "what live sensors see has no labels" if live else "no decision has a label that is known"


def _models(fold: WorkloadFold, deployment: Deployment, observations: Observations) -> list[ModelUse]:
    """The models that the cloud came by, in the order of their announcement, and any other that decided."""
    workload = fold.plan.name
    task = task_named(fold.plan.task)
    events = [event for event in observations.models if event.workload == workload]
    events.sort(key=lambda event: (event.announced_ns is None, event.announced_ns or event.ready_ns))
    uses = [
        ModelUse(
            digest=event.manifest.digest,
            origin=event.origin,
            runtime=event.manifest.runtime,
            quantisation=event.manifest.quantisation,
            from_s=_from_s(observations, workload, event.manifest.digest),
            quality=_quality(fold, event.manifest.digest, deployment, observations),
            n=fold.by_digest[event.manifest.digest],
            announced=event.announced_ns is not None,
            note=event.note,
            size_bytes=event.manifest.size_bytes,
            validated=_validated(task, event),
            trained=_trained(event, deployment),
            trained_in=None if event.trained is None else event.trained.run_id,
            trained_at=None if event.trained is None else event.trained.at,
        )
        for event in events
    ]
    known = {"", *(event.manifest.digest for event in events)}
    for digest in sorted(set(fold.by_digest) - known):
        quality, n = _quality(fold, digest, deployment, observations), fold.by_digest[digest]
        uses.append(ModelUse(digest, "unknown", "unknown", "unknown", None, quality, n, False, "", None, None))
    return uses


def _trained(event: ModelEvent, deployment: Deployment) -> Literal["this run", "remembered"] | None:
    if event.trained is None:
        return None
    return "this run" if event.trained.run_id == deployment.run_id else "remembered"


def _from_s(observations: Observations, workload: str, digest: str) -> float | None:
    swapped = [swap.swapped_ns for swap in observations.swaps if (swap.workload, swap.digest) == (workload, digest)]
    return max(0.0, since_start_s(observations, min(swapped))) if swapped else None


def _validated(task: Task, event: ModelEvent) -> Validated | None:
    manifest = event.manifest
    if not manifest.metrics:
        return None
    metrics = {name: _defined(value) for name, value in sorted(manifest.metrics.items())}
    return Validated(
        metric=task.metric,
        value=metrics.get(task.metric),
        before_export=_defined(manifest.metrics_before_export.get(task.metric, math.nan)),
        metrics=metrics,
        evaluated_on=manifest.evaluated_on,
        source=manifest.data_source,
        real=manifest.real,
    )


def _defined(value: float) -> float | None:
    return round(float(value), 6) if math.isfinite(value) else None
