"""The figures of federated learning, from the rounds that a run wrote down."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from edgebench.clock import NS_PER_S
from edgebench.fabric.records import ReplyRecord, RoundRecord
from edgebench.results.federated_figures import (
    Beside,
    FederatedFigures,
    KindFigures,
    LinkShare,
    Phases,
    RoundFigures,
    Shares,
)
from edgebench.results.observations import Observations
from edgebench.tasks import task_named
from edgebench.topology.deployment import Deployment, FederatedPlan

Metrics = dict[tuple[str, int], dict[str, float | None]]


def federations_of(
    deployment: Deployment,
    observations: Observations,
    rounds: Sequence[RoundRecord],
    beside: Mapping[str, tuple[Beside | None, Beside | None]],
) -> dict[str, FederatedFigures]:
    """Workload -> its federation, in the order of the deployment. beside: as of `BesideRounds`, by workload."""
    return {
        name: _federation(plan, deployment, observations, [r for r in rounds if r.workload == name], beside[name])
        for name, plan in deployment.federated.items()
    }


def strategy_name(plan: FederatedPlan) -> str:
    """What aggregates: a strategy, FedBuff, or an app of the user's own."""
    how = plan.how
    if how.app is not None:
        return f"app {Path(how.app).name}"
    return "FedBuff" if how.mode == "buffered" else how.strategy.name


def _federation(
    plan: FederatedPlan,
    deployment: Deployment,
    observations: Observations,
    rounds: list[RoundRecord],
    beside: tuple[Beside | None, Beside | None],
) -> FederatedFigures:
    workload = plan.how.workload
    metric = task_named(deployment.workloads[workload].task).metric
    scores = {
        score.number: score.metrics[metric]
        for score in observations.scores
        if score.workload == workload and metric in score.metrics
    }
    held_here = [r for r in rounds if not r.resumed]
    own = sorted((r for r in rounds if r.server == deployment.cloud), key=lambda r: (r.number, r.ended_ns))
    of_sites = [r for r in rounds if r.server != deployment.cloud]
    metrics = _app_metrics(observations, workload)
    figures = [_round(r, scores, of_sites, observations, metrics) for r in own]
    return FederatedFigures(
        strategy=strategy_name(plan),
        rounds=[each for each in figures if is_training(each.kind)],
        other_rounds=[each for each in figures if not is_training(each.kind)],
        kinds=_kinds([r for r in own if not r.resumed]),
        server_metrics={number: found for (kind, number), found in sorted(metrics.items()) if kind == "server"},
        engine=plan.how.engine,
        mode=plan.how.mode,
        aggregate=list(plan.how.aggregate),
        clients=len(plan.clients),
        metric=metric,
        real=workload in observations.real_data,
        quality_before=_quality(scores, min(scores, default=0)),
        quality_after=_quality(scores, max(scores, default=0)) if len(scores) > 1 else None,
        partition=_shares(plan, observations, workload),
        links=_links(deployment, held_here) if plan.over_mqtt else {},
        in_rounds_ms=beside[0],
        between_rounds_ms=beside[1],
    )


def is_training(kind: str) -> bool:
    """Whether models are made in rounds of this kind."""
    return kind.partition(".")[0] == "train"


def _app_metrics(observations: Observations, workload: str) -> Metrics:
    """Kind and round -> what the app made of it; a loss and its metrics may have come one after the other."""
    found: Metrics = {}
    for each in observations.app_metrics:
        if each.workload == workload:
            found.setdefault((each.kind, each.number), {}).update(each.metrics)
    return {place: _rounded(metrics) for place, metrics in found.items()}


def _rounded(metrics: Mapping[str, float | None]) -> dict[str, float | None]:
    def shown(value: float | None) -> float | None:
        return None if value is None or not math.isfinite(value) else round(value, 6)

    return {name: shown(value) for name, value in sorted(metrics.items())}


def _kinds(rounds: list[RoundRecord]) -> dict[str, KindFigures]:
    """By kind, in the order in which an app came to use them."""
    found: dict[str, KindFigures] = {}
    for kind in dict.fromkeys(each.kind for each in rounds):
        of_kind = [each.replies for each in rounds if each.kind == kind]
        replies = [reply for each in of_kind for reply in each]
        found[kind] = KindFigures(
            rounds=len(of_kind),
            messages=len(replies),
            good=sum(reply.error is None and (not reply.unread or reply.arrived_ns is not None) for reply in replies),
            failures=sum(reply.error is not None for reply in replies),
            unread=sum(reply.unread for reply in replies),
        )
    return found


def _round(
    record: RoundRecord,
    scores: dict[int, float],
    of_sites: list[RoundRecord],
    observations: Observations,
    app_metrics: Metrics,
) -> RoundFigures:
    training = is_training(record.kind)
    start_ns = observations.started_ns or observations.command_started_ns
    failed = {reply.node: reply.error for reply in record.replies if reply.error is not None}
    return RoundFigures(
        round=record.number,
        kind=record.kind,
        duration_s=None if record.resumed else _s(record.ended_ns - record.started_ns),
        clients=len(record.replies),
        failures=sum(reply.error is not None for reply in record.replies),
        unread=sum(reply.unread for reply in record.replies),
        bytes_up=_total(record, [reply.bytes_up for reply in record.replies]),
        bytes_down=_total(record, [reply.bytes_down for reply in record.replies]),
        quality=_quality(scores, record.number) if training else None,
        started_s=None if record.resumed else _s(record.started_ns - start_ns),
        failed=failed,
        skipped=record.skipped,
        phases_s=None if record.resumed else _phases(record),
        metrics=_rounded({**record.metrics, **app_metrics.get((record.kind, record.number), {})}),
        epsilon=record.epsilon,
        delta=record.delta,
        no_epsilon=record.no_epsilon,
        site_rounds=sum(each.number == record.number for each in of_sites) if training else 0,
        model=record.model,
        resumed=record.resumed,
    )


def _total(record: RoundRecord, counts: list[int | None]) -> int | None:
    """The sum; None where the engine does not tell, or an earlier run sent them."""
    known = [count for count in counts if count is not None]
    return None if record.resumed or (counts and not known) else sum(known)


def _phases(record: RoundRecord) -> Phases | None:
    """None where no reply has all its stamps: with another engine they are not known.

    A buffered round takes in replies whose clients were asked before it began: what lies before counts as 0.
    """
    whole = [reply for reply in record.replies if None not in _stamps(reply)]
    if not whole:
        return None
    last = _stamps(max(whole, key=lambda reply: reply.arrived_ns or 0))
    within = [min(max(at_ns or 0, record.started_ns), record.gathered_ns) for at_ns in last]
    ends_ns = itertools.accumulate([record.started_ns, *within, record.gathered_ns, record.ended_ns], max)
    return Phases(*(_s(end - start) for start, end in itertools.pairwise(ends_ns)))


def _stamps(reply: ReplyRecord) -> tuple[int | None, int | None, int | None, int | None]:
    return reply.delivered_ns, reply.started_ns, reply.finished_ns, reply.arrived_ns


def _shares(plan: FederatedPlan, observations: Observations, workload: str) -> Shares | None:
    for each in observations.partitions:
        if each.workload == workload:
            named = (dict(zip(plan.clients, counts, strict=True)) for counts in (each.samples, each.groups))
            samples, groups = named
            return Shares(each.how, samples, groups)
    return None


def _links(deployment: Deployment, rounds: list[RoundRecord]) -> dict[str, LinkShare]:
    up = dict.fromkeys(deployment.links, 0)
    down = dict.fromkeys(deployment.links, 0)
    for record in rounds:
        for reply in record.replies:
            for link in links_between(deployment, reply.node, record.server):
                up[link] += reply.bytes_up or 0
                down[link] += reply.bytes_down or 0
    return {link: LinkShare(up[link], down[link]) for link in deployment.links if up[link] or down[link]}


def links_between(deployment: Deployment, node: str, above: str) -> list[str]:
    """The links from a node up to one above it, by name."""
    links = []
    while node != above and (parent := deployment.nodes[node].parent) is not None:
        links.append(f"{node} -> {parent}")
        node = parent
    return links


def _quality(scores: dict[int, float], number: int) -> float | None:
    value = scores.get(number)
    return None if value is None or not math.isfinite(value) else round(value, 6)


def _s(ns: int) -> float:
    return round(ns / NS_PER_S, 6)
