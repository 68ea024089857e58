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
)
from edgebench.results.figures import LinkFigures, Result
from edgebench.results.sample_figures import Hops, Quality
from edgebench.topology.deployment import Deployment
from edgebench.topology.wording import listed, things

ROWS_SHOWN = 20
_BROKERS = {"mosquitto": "Mosquitto", "nats": "nats-server", "external": "one of your own"}
_FIGURES = {
    "measured": "was measured",
    "emulated": "was measured in a run in which nodes are emulated: what passes one of them takes as long as the "
    "machine that it stands for would have taken, by its profile",
    "modelled": "is modelled: computed in virtual time, from what things took where it was calibrated",
}


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
    tiers: Counter[str] = Counter()
    for node in deployment.nodes.values():
        tiers[node.tier] += node.count
    parts = [things(tiers[tier], tier) for tier in ("cloud", "edge", "device") if tiers[tier]]
    return [
        result.run_id,
        ", ".join(parts),
        _load(result),
        f"seed {result.seed}",
        f"calibrated by {listed(result.calibrated_by)}" if result.calibrated_by else f"executor {result.executor}",
    ]


def _load(result: Result) -> str:
    streamed_s, duration_s = result.streamed_s, result.duration_s
    cut_short = streamed_s is not None and streamed_s < duration_s
    return f"{streamed_s:.1f} of {duration_s:g} s of load" if cut_short else f"{duration_s:g} s of load"


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
    """What to make of quality figures on made-up data; empty where all data is real, or nothing was decided."""
    if result.figures == "modelled":
        return ""
    made_up = [name for name, each in result.workloads.items() if not each.quality.real]
    if not made_up:
        return ""
    what = "All streams" if len(made_up) == len(result.workloads) else f"The streams of {', '.join(made_up)}"
    return (
        f"{what} are generated data: their quality figures compare models with each other and say nothing of real data."
    )


def figures_note(result: Result) -> str:
    """What each figure of a report is, as the end of a sentence."""
    return _FIGURES[result.figures]


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


def link_tables(result: Result) -> tuple[Table, Table]:
    """The first links, and the rest."""
    between = any(link.real for link in result.links.values())
    lossy = any("loss_percent" in link.requested for link in result.links.values())
    columns = (
        "Link",
        "Latency ms: p50",
        "p99",
        "Jitter ms",
        "Up Mbit/s",
        "Down Mbit/s",
        *(("Lost %",) if lossy else ()),
        *(("Network beneath: ms", "during the run", "Up Mbit/s", "Down Mbit/s") if between else ()),
        "Up",
        "Down",
        "Messages up",
        "Messages down",
    )
    rows = tuple(_link(name, link, between=between, lossy=lossy) for name, link in result.links.items())
    return Table(columns, rows[:ROWS_SHOWN]), Table(columns, rows[ROWS_SHOWN:])


def process_table(result: Result) -> Table:
    """What each process used."""
    several = len(result.machines) > 1
    return Table(
        ("Process", *(("Machine",) if several else ()), "Hosts", "Cores busy", "CPU s", "Peak MB"),
        tuple(
            (
                process_name(name, used.nodes),
                *((used.machine,) if several else ()),
                _hosted(used.nodes, result),
                number(used.busy_cores, 2),
                number(used.cpu_s, 1),
                number(used.rss_mb, 0),
            )
            for name, used in result.processes.items()
        ),
        text=3 if several else 2,
    )


def host_table(result: Result) -> Table:
    """The machine and the software."""
    host = tuple((name, f"{value:,}" if isinstance(value, int) else str(value)) for name, value in result.host.items())
    return Table(("What", "Value"), (*host, ("broker", _brokers(result)), *result.versions.items()), text=2)


def _brokers(result: Result) -> str:
    """Which kinds served the sites and the cloud, and where they differ, which whom."""
    sites: dict[str, list[str]] = {}
    for site, broker in result.brokers.items():
        name = _BROKERS.get(broker.kind, broker.kind)
        sites.setdefault(name if broker.version is None else f"{name} {broker.version}", []).append(site)
    if len(sites) == 1:
        return next(iter(sites))
    return "; ".join(f"{name} at {listed(served)}" for name, served in sites.items()) or NONE


def _pair(hops: Hops, hop: str) -> str:
    spread = getattr(hops, hop)
    if spread is None:
        return NONE
    bound = "" if spread.bound_ms is None else f" ± {ms(spread.bound_ms, 2)}"
    return f"{ms(spread.p50, 2)} / {ms(spread.p99, 2)}{bound}"


def _link(name: str, link: LinkFigures, *, between: bool, lossy: bool) -> tuple[str, ...]:
    """between: whether any link leads from one machine to another. lossy: whether any loses packets. One that was not
    measured undisturbed has a star."""
    keys = ("latency_ms", "latency_p99_ms", "jitter_ms", "up_mbit_s", "down_mbit_s")
    real = ("latency_ms", "latency_during_ms", "up_mbit_s", "down_mbit_s") if between else ()
    return (
        name if link.steady else f"{name} *",
        *(_asked_and_found(link, key) for key in keys),
        *((_lost(link),) if lossy else ()),
        *(number(link.real.get(key), 2) for key in real),
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


def _lost(link: LinkFigures) -> str:
    """What was asked for, and what was lost up and down."""
    if "loss_percent" not in link.requested:
        return NONE
    found = (number(link.measured.get(key), 2) for key in ("up_loss_percent", "down_loss_percent"))
    return f"{link.requested['loss_percent']:g} → {' / '.join(found)}"


def _hosted(nodes: list[str], result: Result) -> str:
    if not nodes:
        return NONE
    tiers = Counter(result.nodes[node].tier for node in nodes)
    return ", ".join(things(number, tier) for tier, number in tiers.items())
