"""Federated learning in a report: tables, sentences and charts."""

from __future__ import annotations

import html
from typing import Any

import numpy as np

from edgebench.report.charts import OVER_TIME, Chart, base_layout, line, note, rule, short
from edgebench.report.view import ROWS_SHOWN, Table
from edgebench.report.wording import count, metric_name, ms, number, quality, size
from edgebench.results.federated_figures import FederatedFigures, Phases, RoundFigures
from edgebench.results.federations import is_training
from edgebench.results.workload_fold import WorkloadFold
from edgebench.tasks import task_named
from edgebench.topology.wording import things

PHASES = tuple(Phases.__struct_fields__)
_LEAST_SCORED = 40
"""Samples in a time bin of the stream, for its quality to be drawn: of fewer it is mostly chance."""


def round_table(figures: FederatedFigures) -> Table:
    """A row a round."""
    metric = metric_name(figures.metric)
    with_epsilon = any(each.epsilon is not None for each in figures.rounds)
    columns = ("Round", "At s", "Took s", "Clients", "Failures", "Down", "Up", f"{metric} held out")
    return Table(
        (*columns, "ε") if with_epsilon else columns,
        tuple(
            (
                str(each.round),
                number(each.started_s, 1),
                number(each.duration_s, 2),
                count(each.clients),
                count(each.failures),
                size(each.bytes_down),
                size(each.bytes_up),
                "skipped" if each.skipped is not None else quality(each.quality) + ("*" if each.resumed else ""),
                *((number(each.epsilon, 2),) if with_epsilon else ()),
            )
            for each in figures.rounds
        ),
    )


def other_table(figures: FederatedFigures) -> Table:
    """A row a round of what a Flower app asked besides training."""
    columns = ("Kind", "Round", "At s", "Took s", "Clients", "Failures", "Unread", "Down", "Up")
    rows = tuple(
        (
            each.kind,
            str(each.round),
            number(each.started_s, 1),
            number(each.duration_s, 2),
            count(each.clients),
            count(each.failures),
            count(each.unread),
            size(each.bytes_down),
            size(each.bytes_up),
        )
        for each in figures.other_rounds
    )
    return Table(columns, rows[:ROWS_SHOWN])


def metrics_table(figures: FederatedFigures) -> Table:
    """A row for each round of which metrics are known: the strategy's, or those of an app's server."""
    of_rounds = [(each.kind, each.round, each.metrics) for each in (*figures.rounds, *figures.other_rounds)]
    of_server = [("at the server", number, metrics) for number, metrics in figures.server_metrics.items()]
    rows = tuple(
        (kind, str(place), ", ".join(f"{name} {_metric(value)}" for name, value in metrics.items()))
        for kind, place, metrics in (*of_rounds, *of_server)
        if metrics
    )
    return Table(("Kind", "Round", "Metrics"), rows[:ROWS_SHOWN])


def _metric(value: float | None) -> str:
    return "not finite" if value is None else f"{value:.4g}"


def link_table(figures: FederatedFigures) -> Table:
    """Bytes of the federation by link."""
    rows = tuple((name, size(share.down_bytes), size(share.up_bytes)) for name, share in figures.links.items())
    return Table(("Link", "Down", "Up"), rows[:ROWS_SHOWN])


def share_table(figures: FederatedFigures) -> Table:
    """What each client learns from."""
    shares = figures.partition
    rows = (
        () if shares is None else tuple((n, count(shares.samples[n]), count(shares.groups[n])) for n in shares.samples)
    )
    return Table(("Client", "Samples", "Patients or subjects"), rows[:ROWS_SHOWN])


def lines(figures: FederatedFigures) -> list[str]:
    """What was done, what failed, and what it did to the stream beside it, in sentences."""
    where = "each edge for its site, then the cloud" if "edge" in figures.aggregate else "the cloud"
    who = f"{figures.strategy} over {things(figures.clients, 'client')}"
    found = [f"{who}, {figures.mode}, engine {figures.engine}; {where} aggregates."]
    if "edge" in figures.aggregate:
        found.append(
            "Clients and failures of a round are the edges; those of each edge's own rounds are in rounds.parquet."
        )
    last = figures.rounds[-1] if figures.rounds else None
    if last is not None and last.epsilon is not None:
        found.append(f"ε is the privacy that a client has spent up to a round's end, at δ = {last.delta:g}.")
    if figures.partition is not None:
        found.append(f"The training data is partitioned by: {figures.partition.how}.")
    if figures.quality_before is not None and figures.quality_after is not None:
        before, after = quality(figures.quality_before), quality(figures.quality_after)
        metric = metric_name(figures.metric)
        found.append(f"{metric} on held-out data: {before} before the first round, {after} after the last.")
    resumed = sum(each.resumed for each in figures.rounds)
    if resumed:
        found.append(f"*: {things(resumed, 'round')} held by the run that this one goes on from.")
    unstated = next((each.no_epsilon for each in figures.rounds if each.no_epsilon is not None), None)
    if unstated is not None:
        found.append(f"No epsilon is stated: {unstated}.")
    for each in (*figures.rounds, *figures.other_rounds):
        which = f"Round {each.round}" if is_training(each.kind) else f"Round {each.round} of kind {each.kind}"
        if each.skipped is not None:
            found.append(f"{which} was skipped: {each.skipped}.")
        for node, reason in list(each.failed.items())[:ROWS_SHOWN]:
            found.append(f"{which}: the reply of {node} does not count: {reason}.")
    unread = sum(kind.unread for kind in figures.kinds.values())
    if unread:
        found.append(f"{things(unread, 'message')} whose reply the app never looked for; that is no failure.")
    if figures.in_rounds_ms is not None and figures.between_rounds_ms is not None:
        during, rest = (
            f"p50 {ms(each.p50)} / p99 {ms(each.p99)} ms ({count(each.n)} samples)"
            for each in (figures.in_rounds_ms, figures.between_rounds_ms)
        )
        found.append(f"Latency of the stream while a round was going on: {during}; else: {rest}.")
    return found


def quality_over_time(figures: FederatedFigures, fold: WorkloadFold) -> Chart | None:
    """The quality of each round's model on held-out data, and that of the stream's decisions by time."""
    ended = [(each, end) for each in figures.rounds if (end := _end_s(each)) is not None]
    rounds = [(each.quality, end) for each, end in ended if each.quality is not None]
    data: list[dict[str, Any]] = []
    span_s = fold.timeline.axis.span_s
    at, value = _in_stream(fold)
    if at:
        data.append(line("in the stream", at, value, "--line-strong", hover="%{x} s: %{y:.3f} in the stream"))
    if rounds:
        ends = [short(end) for _, end in rounds]
        before = [] if figures.quality_before is None else [figures.quality_before]
        x = [0.0, *ends] if before else ends
        y = [*before, *(value for value, _ in rounds)]
        marker = {"color": "--series-1", "symbol": "diamond-open", "size": 9}
        held = line("on held-out data", x, y, "--series-1", hover="%{y:.3f}")
        data.append(held | {"mode": "lines+markers", "marker": marker})
    if not data:
        return None
    shown = base_layout(260, OVER_TIME, metric_name(figures.metric))
    shown["xaxis"] |= {"range": [0, short(max([span_s, *(end for _, end in ended)]))]}
    shown["yaxis"] |= {"rangemode": "normal"}
    shown["shapes"] = [rule("x", short(end)) for _, end in _apart(ended, span_s)]
    shown["annotations"] = [
        note(f"round {each.round}", x=short(end), y=1.0, yref="paper", xanchor="left") | {"yanchor": "top", "xshift": 3}
        for each, end in _apart(ended, span_s, share=12)
    ]
    return {"data": data, "layout": shown}


def phase_chart(figures: FederatedFigures) -> Chart | None:
    """Where the time of each round went, stacked."""
    rounds = [each for each in figures.rounds if each.phases_s is not None][:100]
    if not rounds:
        return None
    data = [
        {
            "type": "bar",
            "name": phase,
            "x": [str(each.round) for each in rounds],
            "y": [short(getattr(each.phases_s, phase)) for each in rounds],
            "marker": {"color": f"--series-{place % 6 + 1}", "line": {"width": 0}},
            "hovertemplate": f"round %{{x}}: {html.escape(phase)} %{{y:.3f}} s<extra></extra>",
        }
        for place, phase in enumerate(PHASES)
    ]
    shown = base_layout(240, "round", "s, along the client that answered last")
    shown |= {"barmode": "stack", "bargap": 0.35}
    shown["xaxis"] |= {"type": "category"}
    shown["legend"] |= {"traceorder": "normal"}
    return {"data": data, "layout": shown}


def _in_stream(fold: WorkloadFold) -> tuple[list[float], list[float]]:
    """The task's metric over the decisions that were due in each time bin."""
    task = task_named(fold.plan.task)
    # Ten times the samples of a latency bin: a metric needs both labels, and many of them.
    width_s, narrow = fold.timeline.axis.wider(max(1, fold.decided // 10))
    scored = fold.scores.of()
    bins = scored.bins // narrow
    at: list[float] = []
    value: list[float] = []
    for each in np.unique(bins).tolist():
        due = scored.take(bins == each)
        if len(due) < _LEAST_SCORED or not np.isfinite(due.outputs).all():
            continue
        found = task.score(due.outputs, due.labels)[task.metric]
        if np.isfinite(found):
            at.append(short((each + 0.5) * width_s))
            value.append(short(float(found)))
    return at, value


def _end_s(figures: RoundFigures) -> float | None:
    """When a round ended; None where it was in an earlier run."""
    if figures.started_s is None or figures.duration_s is None:
        return None
    return figures.started_s + figures.duration_s


def _apart(
    ended: list[tuple[RoundFigures, float]], span_s: float, share: int = 100
) -> list[tuple[RoundFigures, float]]:
    """Rounds whose ends are drawn apart from one another."""
    kept: list[tuple[RoundFigures, float]] = []
    for each, end in ended:
        if not kept or end - kept[-1][1] >= span_s / share:
            kept.append((each, end))
    return kept


def strategy_line(figures: FederatedFigures) -> str:
    """One line for the terminal."""
    failures = sum(each.failures for each in figures.rounds)
    unread = sum(each.unread for each in figures.rounds)
    skipped = sum(each.skipped is not None for each in figures.rounds)
    learned = ""
    if figures.quality_before is not None and figures.quality_after is not None:
        before, after = quality(figures.quality_before), quality(figures.quality_after)
        learned = f", {metric_name(figures.metric)} {before} → {after} on held-out data"
    odd = _counted(failures, unread) + (f", {things(skipped, 'skipped round')}" if skipped else "")
    besides = "".join(
        f"; {things(each.rounds, f'{kind} round')}{_counted(each.failures, each.unread)}"
        for kind, each in figures.kinds.items()
        if not is_training(kind)
    )
    last = figures.rounds[-1] if figures.rounds else None
    private = "" if last is None or last.epsilon is None else f", ε {last.epsilon:.2f} at δ {last.delta:g}"
    took_s = [each.duration_s for each in figures.rounds if each.duration_s is not None]
    took = f", {sum(took_s) / len(took_s):.3g} s each in the mean" if took_s else ""
    rounds = f"{things(len(figures.rounds), 'federated round')} of {figures.strategy}"
    return f"{rounds}{took}{learned}{private}{odd}{besides}"


def _counted(failures: int, unread: int) -> str:
    unread_too = f", {count(unread)} never read" if unread else ""
    return (f", {things(failures, 'failure')}" if failures else "") + unread_too
