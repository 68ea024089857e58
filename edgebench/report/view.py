"""What stands in a report: the figures of a result put into words and tables."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from edgebench.report.wording import (
    NONE,
    count,
    hop_name,
    metric_name,
    ms,
    number,
    process_name,
    quality,
    shown_hops,
    size,
    things,
)
from edgebench.results.figures import (
    Adequacy,
    Hops,
    LinkFigures,
    ModelUse,
    NodeSwap,
    Quality,
    Result,
    RolloutFigures,
    Slip,
    WorkloadFigures,
)
from edgebench.topology.deployment import Deployment

ROWS_SHOWN = 20


@dataclass(frozen=True)
class Table:
    """Cells as text; the first `text` columns are words, the others numbers."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    text: int = 1


@dataclass(frozen=True)
class Tile:
    """A figure that stands out."""

    name: str
    value: str
    note: str


def facts(result: Result, deployment: Deployment) -> list[str]:
    """What was run."""
    tiers = Counter(node.tier for node in deployment.nodes.values())
    parts = [things(tiers[tier], tier) for tier in ("cloud", "edge", "device") if tiers[tier]]
    return [
        result.run_id,
        ", ".join(parts),
        f"{result.duration_s:g} s of load",
        f"seed {result.seed}",
        f"executor {result.executor}",
    ]


def verdict(result: Result) -> dict[str, str]:
    """The headline, and what it means for whoever reads on."""
    if result.verdict.valid:
        return {
            "headline": "Valid",
            "sentence": "The load kept its schedule, every sample was decided once, the links that were measured did "
            "as asked and no part died: the figures may be trusted."
            + (
                " Other work disturbed some of it, and changed them less than is tolerated."
                if disturbed_lines(result)
                else ""
            ),
        }
    return {
        "headline": "Invalid",
        "sentence": "Do not rely on the figures below; they are kept because they may help to find out why. "
        + ("The reason:" if len(result.verdict.reasons) == 1 else "The reasons:"),
    }


def tiles(result: Result) -> list[Tile]:
    """The first figures that anyone looks for."""
    workloads = result.workloads
    decided, scheduled = (sum(getattr(each, key) for each in workloads.values()) for key in ("decided", "scheduled"))
    lost, again = (sum(getattr(each, key) for each in workloads.values()) for key in ("lost", "duplicated"))
    found = [Tile("Decided", f"{decided:,}", f"of {scheduled:,} due; {lost:,} lost, {again:,} duplicated")]
    slowest = max(
        ((each.latency_ms.p99, name) for name, each in workloads.items() if each.latency_ms is not None), default=None
    )
    if slowest is not None:
        found.append(Tile("Highest p99", f"{ms(slowest[0])} ms", slowest[1]))
    if result.started_to_first_decision_s is not None:
        found.append(
            Tile("First decision", f"{result.started_to_first_decision_s:.1f} s", "after the command was given")
        )
    swapped = [rollout for rollout in result.rollouts if rollout.nodes]
    notes = [f"{rollout.workload} at {min(n.swapped_s for n in rollout.nodes.values()):.1f} s" for rollout in swapped]
    found.append(Tile("Roll-outs", str(len(swapped)), ", ".join(notes[:2]) or "none during the streams"))
    if result.host_use is not None:
        found.append(Tile("Host busy", f"{result.host_use.busy:.0%}", f"{result.host_use.stolen:.1%} stolen by others"))
    return found


def generated_note(result: Result) -> str:
    """What to make of quality figures on made-up data; empty where all data is real."""
    made_up = [name for name, each in result.workloads.items() if not each.quality.real]
    if not made_up:
        return ""
    what = "All streams" if len(made_up) == len(result.workloads) else f"The streams of {', '.join(made_up)}"
    return (
        f"{what} are generated data: their quality figures compare models with each other and say nothing of real data."
    )


def workload_table(result: Result) -> Table:
    """Counts and latency."""
    return Table(
        (
            "Workload",
            "Infer at",
            "Due",
            "Decided",
            "Lost",
            "Dupl.",
            "Reord.",
            "Rejected",
            "Late",
            "p50",
            "p90",
            "p99",
            "Max",
        ),
        tuple(
            (
                name,
                each.place,
                *(
                    count(getattr(each, key))
                    for key in ("scheduled", "decided", "lost", "duplicated", "reordered", "rejected", "late")
                ),
                *(
                    ms(getattr(each.latency_ms, key) if each.latency_ms else None)
                    for key in ("p50", "p90", "p99", "max")
                ),
            )
            for name, each in result.workloads.items()
        ),
        text=2,
    )


def quality_table(result: Result) -> Table:
    """Throughput and quality."""
    return Table(
        ("Workload", "Task", "Load", "Data", "Deadline ms", "Decisions/s", "Labelled", "Quality", "Also"),
        tuple(
            (
                name,
                each.task,
                each.load,
                data_of(each.quality),
                NONE if each.deadline_ms is None else f"{each.deadline_ms:g}",
                number(each.throughput_hz, 1),
                count(each.quality.n),
                f"{metric_name(each.quality.metric)} {quality(each.quality.value, each.quality.interval)}",
                _also(each.quality),
            )
            for name, each in result.workloads.items()
        ),
        text=4,
    )


def _also(figure: Quality) -> str:
    """The other metrics of the task."""
    others = {name: value for name, value in figure.metrics.items() if name != figure.metric}
    return ", ".join(f"{metric_name(name)} {quality(value)}" for name, value in others.items()) or NONE


def data_of(figure: Quality) -> str:
    """Where the data of a stream comes from."""
    if figure.real:
        return figure.source
    return "generated data" if figure.source in ("generated", "unknown") else f"{figure.source} (generated data)"


def hop_table(result: Result) -> Table:
    """p50 / p99 of each hop, and of the whole."""
    rows = []
    shown = shown_hops(result)
    for name, each in result.workloads.items():
        if each.hops_ms is None or each.latency_ms is None:
            continue
        cells = [_pair(each.hops_ms, hop) for hop in shown]
        rows.append((name, *cells, f"{ms(each.latency_ms.p50, 2)} / {ms(each.latency_ms.p99, 2)}"))
    return Table(("Workload", *(hop_name(hop) for hop in shown), "all"), tuple(rows))


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


def link_tables(result: Result) -> tuple[Table, Table]:
    """The first links, and the rest."""
    columns = (
        "Link",
        "Latency ms",
        "Jitter ms",
        "Up Mbit/s",
        "Down Mbit/s",
        "Up",
        "Down",
        "Messages up",
        "Messages down",
    )
    rows = tuple(_link(name, link) for name, link in result.links.items())
    return Table(columns, rows[:ROWS_SHOWN]), Table(columns, rows[ROWS_SHOWN:])


def process_table(result: Result) -> Table:
    """What each process used."""
    return Table(
        ("Process", "Hosts", "Cores busy", "CPU s", "Peak MB"),
        tuple(
            (
                process_name(name, used.nodes),
                _hosted(used.nodes, result),
                number(used.busy_cores, 2),
                number(used.cpu_s, 1),
                number(used.rss_mb, 0),
            )
            for name, used in result.processes.items()
        ),
        text=2,
    )


def trust_table(result: Result) -> Table:
    """What the verdict rests on."""
    return Table(
        ("Workload", "Schedule slip", "Slipped", "p99", "p99 ≤", "Bound", "Over it", "Samples", "Needed"),
        tuple(
            (name, *_slip(each.slip_ms, each.scheduled), *_adequacy(each, each.adequacy))
            for name, each in result.workloads.items()
        ),
    )


def disturbance_table(result: Result) -> Table:
    """The headline figures of all samples, and without the disturbed seconds; no rows where there are none."""
    rows = [
        (
            name,
            f"{count(each.decided)} / {count(alone.n)}",
            f"{ms(each.latency_ms.p50)} / {ms(alone.p50)}",
            f"{ms(each.latency_ms.p99)} / {ms(alone.p99)}",
            f"{number(each.throughput_hz, 1)} / {number(alone.throughput_hz, 1)}",
        )
        for name, each in result.workloads.items()
        if (alone := each.undisturbed) is not None and each.latency_ms is not None
    ]
    return Table(("Workload", "Decided", "p50", "p99", "Decisions/s"), tuple(rows))


def disturbed_lines(result: Result) -> list[str]:
    """How much of the run other work disturbed; nothing where it disturbed none."""
    found = result.disturbance
    if found is None or not found.spans:
        return []
    disturbed_s = sum(span.to_s - span.from_s for span in found.spans)
    return [f"other work disturbed {disturbed_s:.1f} s of the run, {found.share:.0%} of its streams"]


def _lateness_line(result: Result) -> str:
    found = result.disturbance
    if found is None:
        return "Whether other work disturbed the run is not known."
    of = "" if found.most_hiccup_of is None else f", in {found.most_hiccup_of}"
    return (
        f"Timers of the run's parts fired {found.mean_late_ms:.2f} ms late on average, {found.most_late_ms:.2f} ms in "
        f"the worst second; the largest hiccup took {found.most_hiccup_ms:.1f} ms{of}."
    )


def trust_lines(result: Result) -> list[str]:
    """What else was counted that a reader should know of."""
    lines = []
    for name, each in result.workloads.items():
        for what, reasons in (("rejected", each.rejected_by_reason), ("dropped", each.dropped_by_reason)):
            if reasons:
                by_reason = ", ".join(f"{number:,} {reason}" for reason, number in reasons.items())
                lines.append(f"{name}: payloads {what}: {by_reason}.")
        if each.plain_json:
            lines.append(
                f"{name}: {things(each.plain_json, 'plain JSON sample')} decided for senders outside this run."
            )
        if each.duplicated > each.duplicated_at_devices:
            again = each.duplicated - each.duplicated_at_devices
            lines.append(f"{name}: {things(again, 'sample')} reached the deciding node again and were decided once.")
    if result.rejected_elsewhere:
        by_reason = ", ".join(f"{number:,} {reason}" for reason, number in result.rejected_elsewhere.items())
        lines.append(f"Payloads for no workload of this run: {by_reason}.")
    if result.host_use is not None:
        lines.append(
            f"While samples were due the host was {result.host_use.busy:.0%} busy; all its cores were busy for "
            f"{result.host_use.full:.0%} of the time. Other guests of its hardware took {result.host_use.stolen:.1%}"
            + ("." if result.host_use.foreign is None else f", foreign processes {result.host_use.foreign:.1%}.")
        )
    lines.append(_lateness_line(result))
    return lines + [f"{line[0].upper()}{line[1:]}." for line in disturbed_lines(result)]


def host_table(result: Result) -> Table:
    """The machine and the software."""
    host = tuple((name, f"{value:,}" if isinstance(value, int) else str(value)) for name, value in result.host.items())
    return Table(("What", "Value"), host + tuple(result.versions.items()), text=2)


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


def _pair(hops: Hops, hop: str) -> str:
    spread = getattr(hops, hop)
    return f"{ms(spread.p50, 2)} / {ms(spread.p99, 2)}"


def _validated(model: ModelUse) -> str:
    if model.validated is None:
        return NONE
    value = quality(model.validated.value)
    return value if model.validated.real else f"{value} (generated)"


def _slip(slip: Slip | None, scheduled: int) -> tuple[str, str]:
    if slip is None:
        return NONE, NONE
    return (
        f"{slip.p50:,.1f} / {slip.p95:,.1f} / {slip.p99:,.1f}",
        f"{slip.over:,} of {scheduled:,} by over {slip.limit:g} ms",
    )


def _adequacy(figures: WorkloadFigures, adequacy: Adequacy | None) -> tuple[str, ...]:
    if adequacy is None or figures.latency_ms is None:
        return (NONE,) * 6
    return (
        ms(figures.latency_ms.p99),
        ms(adequacy.p99_upper_ms) if adequacy.p99_upper_ms is not None else "too few",
        NONE if adequacy.bound_ms is None else f"{adequacy.bound_ms:g}",
        NONE if adequacy.bound_ms is None else count(adequacy.over),
        count(figures.decided),
        f"{count(adequacy.needed)} {'✓' if adequacy.adequate else '✗'}",
    )


def _link(name: str, link: LinkFigures) -> tuple[str, ...]:
    keys = ("latency_ms", "jitter_ms", "up_mbit_s", "down_mbit_s")
    return (
        name,
        *(_asked_and_found(link, key) for key in keys),
        size(link.up_bytes),
        size(link.down_bytes),
        count(link.up_messages),
        count(link.down_messages),
    )


def _asked_and_found(link: LinkFigures, key: str) -> str:
    asked, found = link.requested.get(key), link.measured.get(key)
    if asked is None and found is None:
        return NONE
    left = "any" if asked is None else f"{asked:g}"
    return f"{left} → {NONE if found is None else f'{found:.2f}' if found < 99.95 else f'{found:.0f}'}"


def _hosted(nodes: list[str], result: Result) -> str:
    if not nodes:
        return NONE
    tiers = Counter(result.nodes[node].tier for node in nodes)
    return ", ".join(things(number, tier) for tier, number in tiers.items())
