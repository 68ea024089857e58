"""From what a run wrote down to its figures; a pure function of the files of the run directory."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgebench.clock import NS_PER_S
from edgebench.core.tallies import Tally
from edgebench.fabric.records import ModelEvent, Observations, RoundRecord
from edgebench.results import stats
from edgebench.results.cascades import cascade_of
from edgebench.results.federations import federations_of
from edgebench.results.figures import (
    SCHEMA,
    Adequacy,
    Bound,
    DeathFigures,
    FaultFigures,
    Hops,
    HopStatistics,
    HostUse,
    LinkFigures,
    ModelUse,
    NodeFigures,
    ProcessFigures,
    Quality,
    Result,
    Slip,
    Validated,
    WorkloadFigures,
)
from edgebench.results.handovers import handovers_of
from edgebench.results.joints import joints_of
from edgebench.results.rollouts import rollouts_of
from edgebench.results.samples import (
    ABSENT,
    HOPS,
    Ints,
    Samples,
    decides_at_random,
    latency_of,
    ms,
    samples_by_workload,
)
from edgebench.results.verdict import FULL_BUSY, slip_limit_ms, verdict_of
from edgebench.tasks import task_named
from edgebench.tasks.task import Task
from edgebench.topology.deployment import Deployment, NodePlan, WorkloadPlan
from edgebench.topology.model import Offline, Server

_MB = 1_000_000
_MOST_FOR_INTERVAL = 100_000


def result_of(
    deployment: Deployment, observations: Observations, records: Any, rounds: Sequence[RoundRecord] = ()
) -> Result:
    """All figures of a run and the verdict on them. records: a pyarrow table, rounds: of federations, see `rundir`."""
    samples = samples_by_workload(records, tuple(deployment.workloads))
    workloads = {
        name: _workload(plan, deployment, observations, samples[name]) for name, plan in deployment.workloads.items()
    }
    links = _links(deployment, observations)
    host_use = _host_use(observations)
    processes = _processes(deployment, observations)
    federated = federations_of(deployment, observations, rounds, samples)
    return Result(
        schema=SCHEMA,
        run_id=deployment.run_id,
        name=deployment.name,
        seed=deployment.seed,
        executor=deployment.executor,
        verdict=verdict_of(deployment, observations, workloads, links, host_use, federated),
        workloads=workloads,
        federated=federated,
        links=links,
        nodes=_nodes(deployment, processes),
        host=dict(sorted(observations.host.items())),
        versions=dict(sorted(observations.versions.items())),
        figures="measured",
        duration_s=deployment.duration_s,
        streamed_s=_streamed_s(observations),
        started_to_first_decision_s=_first_decision_s(observations, samples.values()),
        rollouts=rollouts_of(observations, samples),
        processes=processes,
        host_use=host_use,
        deaths=_deaths(observations),
        faults=[
            FaultFigures(each.link, each.kind, since_start_s(observations, each.at_ns), each.part)
            for each in observations.faults
        ],
        rejected_elsewhere=_rejected_elsewhere(deployment, observations),
        joint=joints_of(deployment, observations, samples),
        handovers=handovers_of(deployment, observations, samples),
    )


def since_start_s(observations: Observations, at_ns: int) -> float:
    """Time from the start of the streams in s; from the start of the command where they never started."""
    start_ns = observations.started_ns if observations.started_ns is not None else observations.command_started_ns
    return round((at_ns - start_ns) / NS_PER_S, 6)


def _workload(
    plan: WorkloadPlan, deployment: Deployment, observations: Observations, samples: Samples
) -> WorkloadFigures:
    tallies = {
        node: of_node[plan.name] for node, of_node in sorted(observations.tallies.items()) if plan.name in of_node
    }
    scheduled = _scheduled(samples, tallies)
    decided = int(samples.decided.sum())
    latency = latency_of(samples.latency_ns)
    task = task_named(plan.task)
    rejected = _counted(tally.rejected for tally in tallies.values())
    dropped = _counted(tally.dropped for tally in tallies.values())
    bound = (
        Bound(plan.load.p99_ms, latency is not None and latency.p99 <= plan.load.p99_ms)
        if isinstance(plan.load, Server) and plan.paced_by is None
        else None
    )
    batches = samples.batch[samples.batch != ABSENT]
    return WorkloadFigures(
        task=plan.task,
        place=plan.place,
        scheduled=scheduled,
        decided=decided,
        lost=scheduled - decided,
        duplicated=sum(tally.duplicated for tally in tallies.values()),
        # What came out of order at an edge or the cloud is decided so, and counts when its decision reaches the device.
        reordered=sum(tallies[node].reordered for node in plan.sources if node in tallies),
        rejected=sum(rejected.values()),
        late=0 if plan.deadline_ms is None else int((ms(samples.latency_ns) > plan.deadline_ms).sum()),
        latency_ms=latency,
        hops_ms=_hops(samples),
        throughput_hz=_throughput_hz(plan, observations, samples),
        quality=_quality(task, plan.name, deployment, observations, samples, samples.decided),
        models=_models(task, plan.name, deployment, observations, samples),
        load=str(plan.load.__struct_config__.tag) if plan.paced_by is None else f"with {plan.paced_by}",
        deadline_ms=plan.deadline_ms,
        dropped=sum(dropped.values()),
        unexpected=sum(tally.unexpected for tally in tallies.values()),
        plain_json=sum(tally.plain_json for tally in tallies.values()),
        duplicated_at_devices=sum(tallies[node].duplicated for node in plan.sources if node in tallies),
        rejected_by_reason=rejected,
        dropped_by_reason=dropped,
        slip_ms=_slip(plan, samples),
        adequacy=_adequacy(plan, samples),
        bound=bound,
        mean_batch=stats.rounded(batches.mean()) if len(batches) else None,
        compress=None if plan.compress is None else f"JPEG {plan.compress.quality}",
        sample_bytes=stats.rounded(samples.size_bytes.mean()) if len(samples) else None,
        cascade=cascade_of(plan, deployment, observations, samples),
    )


def _scheduled(samples: Samples, tallies: dict[str, Tally]) -> int:
    """Rows, and the samples that a device counted but did not live to write down."""
    rows = dict(zip(samples.nodes, np.bincount(samples.node, minlength=len(samples.nodes)).tolist(), strict=True))
    return sum(max(rows.get(node, 0), tallies[node].scheduled if node in tallies else 0) for node in {*rows, *tallies})


def _hops(samples: Samples) -> Hops | None:
    hops = samples.hops_ns
    return Hops(**{name: _spread(hops[:, column]) for column, name in enumerate(HOPS)}) if len(hops) else None


def _spread(ns: Ints) -> HopStatistics:
    p50, p99 = stats.percentiles(ns, (0.5, 0.99))
    return HopStatistics(p50=ms(p50), p99=ms(p99), mean=stats.rounded(ms(ns.mean())))


def _slip(plan: WorkloadPlan, samples: Samples) -> Slip | None:
    slip = samples.slip_ns
    if not len(slip):
        return None
    limit = slip_limit_ms(plan.deadline_ms)
    p50, p95, p99 = stats.percentiles(slip, (0.5, 0.95, 0.99))
    return Slip(
        p50=ms(p50),
        p95=ms(p95),
        p99=ms(p99),
        max=ms(float(slip.max())),
        limit=limit,
        over=int((ms(slip) > limit).sum()),
    )


def _adequacy(plan: WorkloadPlan, samples: Samples) -> Adequacy | None:
    latency_ms = ms(samples.latency_ns)
    if not len(latency_ms):
        return None
    bounded = isinstance(plan.load, Server) and plan.paced_by is None
    bound_ms = plan.load.p99_ms if isinstance(plan.load, Server) and bounded else plan.deadline_ms
    over = 0 if bound_ms is None else int((latency_ms > bound_ms).sum())
    needed = stats.samples_needed(over)
    return Adequacy(
        confidence=stats.CONFIDENCE,
        bound_ms=bound_ms,
        over=over,
        needed=needed,
        adequate=len(latency_ms) >= needed,
        p99_upper_ms=stats.upper_bound(latency_ms),
    )


def _throughput_hz(plan: WorkloadPlan, observations: Observations, samples: Samples) -> float:
    """Decisions over the time from the start of the streams to their end, or to the last arrival where that is later;
    an offline load ends with its last arrival."""
    arrived = samples.ns["arrived_ns"][samples.decided]
    if not len(arrived):
        return 0.0
    start_ns = observations.started_ns if observations.started_ns is not None else int(samples.ns["scheduled_ns"].min())
    end_ns = int(arrived.max())
    if not isinstance(plan.load, Offline) and observations.ended_ns is not None:
        end_ns = max(end_ns, observations.ended_ns)
    return stats.rounded(len(arrived) * NS_PER_S / (end_ns - start_ns)) if end_ns > start_ns else 0.0


def _quality(
    task: Task,
    workload: str,
    deployment: Deployment,
    observations: Observations,
    samples: Samples,
    which: NDArray[np.bool_],
) -> Quality:
    outputs, labels = samples.scored(which)
    metrics: dict[str, float | None] = {}
    interval: tuple[float, float] | None = None
    if len(outputs) and not decides_at_random(workload, observations):
        metrics = {name: _defined(value) for name, value in task.score(outputs, labels).items()}
    value = metrics.get(task.metric)
    if value is not None and len(outputs) <= _MOST_FOR_INTERVAL:
        low, high = task.intervals(outputs, labels, seed=deployment.seed)[task.metric]
        interval = (round(low, 6), round(high, 6)) if math.isfinite(low) and math.isfinite(high) else None
    return Quality(
        metric=task.metric,
        value=value,
        n=len(outputs),
        interval=interval,
        source=observations.data_sources.get(workload, "unknown"),
        real=workload in observations.real_data,
        metrics=metrics,
    )


def _models(
    task: Task, workload: str, deployment: Deployment, observations: Observations, samples: Samples
) -> list[ModelUse]:
    """The models that the cloud came by, in the order of their announcement, and any other that decided."""
    events = [event for event in observations.models if event.workload == workload]
    events.sort(key=lambda event: (event.announced_ns is None, event.announced_ns or event.ready_ns))
    codes = {digest: code for code, digest in enumerate(samples.digests)}
    uses = []
    for event in events:
        digest = event.manifest.digest
        which = samples.decided & (samples.digest == codes.get(digest, ABSENT - 1))
        uses.append(
            ModelUse(
                digest=digest,
                origin=event.origin,
                runtime=event.manifest.runtime,
                quantisation=event.manifest.quantisation,
                from_s=_from_s(observations, workload, digest),
                quality=_quality(task, workload, deployment, observations, samples, which),
                n=int(which.sum()),
                announced=event.announced_ns is not None,
                note=event.note,
                size_bytes=event.manifest.size_bytes,
                validated=_validated(task, event),
            )
        )
    known = {event.manifest.digest for event in events}
    for code, digest in enumerate(samples.digests):
        which = samples.decided & (samples.digest == code)
        if digest in known or not which.any():
            continue
        quality = _quality(task, workload, deployment, observations, samples, which)
        uses.append(
            ModelUse(digest, "unknown", "unknown", "unknown", None, quality, int(which.sum()), False, "", None, None)
        )
    return uses


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


def _links(deployment: Deployment, observations: Observations) -> dict[str, LinkFigures]:
    order = {link.name: place for place, link in enumerate(deployment.links.values())}
    observed = sorted(observations.links, key=lambda link: (order.get(link.name, len(order)), link.name))
    return {
        link.name: LinkFigures(
            bytes=_sum(link.up_bytes, link.down_bytes),
            messages=_sum(link.up_messages, link.down_messages),
            up_bytes=link.up_bytes,
            down_bytes=link.down_bytes,
            up_messages=link.up_messages,
            down_messages=link.down_messages,
            requested=dict(sorted(link.requested.items())),
            measured=dict(sorted(link.measured.items())),
            steady=link.steady,
        )
        for link in observed
    }


def _processes(deployment: Deployment, observations: Observations) -> dict[str, ProcessFigures]:
    figures = {}
    for process, usage in sorted(observations.usage.items()):
        during = [
            sample
            for sample in usage
            if (observations.started_ns or 0) <= sample.at_ns <= (observations.ended_ns or math.inf)
        ]
        busy = None
        if len(during) > 1 and during[-1].at_ns > during[0].at_ns:
            busy = (during[-1].cpu_s - during[0].cpu_s) / ((during[-1].at_ns - during[0].at_ns) / NS_PER_S)
        figures[process] = ProcessFigures(
            nodes=[node for node in observations.hosts_of.get(process, []) if node in deployment.nodes],
            cpu_s=round(max(sample.cpu_s for sample in usage), 3) if usage else None,
            rss_mb=round(max(sample.rss_bytes for sample in usage) / _MB, 1) if usage else None,
            busy_cores=round(busy, 4) if busy is not None else None,
        )
    return figures


def _nodes(deployment: Deployment, processes: dict[str, ProcessFigures]) -> dict[str, NodeFigures]:
    process_of = {node: process for process, figures in processes.items() for node in figures.nodes}
    return {name: _node(plan, process_of.get(name), processes) for name, plan in deployment.nodes.items()}


def _node(plan: NodePlan, process: str | None, processes: dict[str, ProcessFigures]) -> NodeFigures:
    if process is None:
        return NodeFigures(plan.tier, plan.profile, None, None, None, None, 0)
    used = processes[process]
    return NodeFigures(plan.tier, plan.profile, used.cpu_s, used.rss_mb, used.busy_cores, process, len(used.nodes))


def _host_use(observations: Observations) -> HostUse | None:
    start_ns, end_ns = observations.started_ns, observations.ended_ns
    if start_ns is None:
        return None
    during = [use for use in observations.host_usage if start_ns <= use.at_ns <= (end_ns or math.inf)]
    if not during:
        return None
    return HostUse(
        busy=round(sum(use.busy for use in during) / len(during), 4),
        full=round(sum(use.busy >= FULL_BUSY for use in during) / len(during), 4),
        stolen=round(sum(use.stolen for use in during) / len(during), 4),
    )


def _streamed_s(observations: Observations) -> float | None:
    return since_start_s(observations, observations.ended_ns) if observations.ended_ns is not None else None


def _first_decision_s(observations: Observations, samples: Iterable[Samples]) -> float | None:
    firsts = [int(each.ns["arrived_ns"][each.decided].min()) for each in samples if each.decided.any()]
    return round((min(firsts) - observations.command_started_ns) / NS_PER_S, 6) if firsts else None


def _deaths(observations: Observations) -> list[DeathFigures]:
    ordered = sorted(observations.deaths, key=lambda death: death.at_ns)
    return [
        DeathFigures(
            death.part, death.status, since_start_s(observations, death.at_ns), death.last_words, death.expected
        )
        for death in ordered
    ]


def _rejected_elsewhere(deployment: Deployment, observations: Observations) -> dict[str, int]:
    """Payloads that could be assigned to no workload of this run."""
    return _counted(
        tally.rejected
        for of_node in observations.tallies.values()
        for workload, tally in of_node.items()
        if workload not in deployment.workloads
    )


def _counted(counts: Iterable[dict[str, int]]) -> dict[str, int]:
    total: Counter[str] = Counter()
    for each in counts:
        total.update(each)
    return {reason: count for reason, count in sorted(total.items()) if count}


def _sum(up: int | None, down: int | None) -> int | None:
    return None if up is None and down is None else (up or 0) + (down or 0)


def _defined(value: float) -> float | None:
    return round(float(value), 6) if math.isfinite(value) else None
