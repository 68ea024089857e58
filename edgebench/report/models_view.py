"""The models of a workload in a report, and how later ones came to the nodes."""

from __future__ import annotations

from edgebench.report.view import ROWS_SHOWN, Table
from edgebench.report.wording import NONE, count, metric_name, ms, number, quality, size
from edgebench.results.figures import NodeSwap, Result, RolloutFigures
from edgebench.results.sample_figures import ModelUse, WorkloadFigures
from edgebench.topology.wording import things


def model_table(figures: WorkloadFigures) -> Table:
    """The models of one workload."""
    metric = metric_name(figures.quality.metric)
    return Table(
        (
            "Model",
            "Origin",
            "Runtime",
            "From s",
            "Size",
            "Decisions",
            f"{metric} in the stream",
            f"{metric} held out",
            "Before export",
        ),
        tuple(
            (
                model.digest[:8],
                model.origin,
                f"{model.runtime} {model.quantisation}",
                number(model.from_s, 1),
                size(model.size_bytes),
                count(model.n),
                quality(model.quality.value, model.quality.interval),
                _validated(model),
                NONE if model.validated is None else quality(model.validated.before_export),
            )
            for model in figures.models
        ),
        text=3,
    )


def model_lines(name: str, result: Result) -> list[str]:
    """What happened to the models of one workload, in sentences."""
    lines = []
    for model in result.workloads[name].models:
        if model.trained == "remembered":
            lines.append(
                f"{model.digest[:8]} is remembered: it was trained by {model.trained_in}, at {model.trained_at}."
            )
        if model.note:
            lines.append(f"{model.digest[:8]}: {model.note}")
        if not model.announced and model.origin != "unknown":
            lines.append(f"{model.digest[:8]} was not announced: the nodes went on with the model that they had.")
    return lines + [_rollout_line(rollout) for rollout in result.rollouts if rollout.workload == name]


def swap_table(name: str, result: Result) -> Table:
    """Each node's change to a later model of one workload, and what went on around it."""
    rows = [
        (node, rollout.digest[:8], *_swap(swap))
        for rollout in result.rollouts
        if rollout.workload == name
        for node, swap in list(rollout.nodes.items())[:ROWS_SHOWN]
    ]
    columns = (
        "Node",
        "Model",
        "Fetched s",
        "Swapped s",
        "Lost",
        "Longest pause",
        "elsewhere",
        "Longest wait",
        "elsewhere",
    )
    return Table(columns, tuple(rows), text=2)


def _rollout_line(rollout: RolloutFigures) -> str:
    head = f"{rollout.digest[:8]} was ready at {rollout.ready_s:.1f} s and announced at {rollout.announced_s:.1f} s"
    if not rollout.nodes:
        return f"{head}; no node swapped it in before the run ended."
    first, last = (pick(node.swapped_s for node in rollout.nodes.values()) for pick in (min, max))
    return f"{head}; {things(len(rollout.nodes), 'node')} swapped it in, from {first:.2f} to {last:.2f} s."


def _swap(swap: NodeSwap) -> tuple[str, ...]:
    return (
        f"{swap.fetched_s:.2f}",
        f"{swap.swapped_s:.2f}",
        count(swap.lost),
        ms(swap.pause_ms),
        f"{ms(swap.usual_pause_p99_ms)}, max {ms(swap.usual_pause_max_ms)}",
        ms(swap.waited_ms, 2),
        ms(swap.usual_waited_p99_ms, 2),
    )


def _validated(model: ModelUse) -> str:
    if model.validated is None:
        return NONE
    value = quality(model.validated.value)
    return value if model.validated.real else f"{value} (generated)"
