"""`edgebench report`: result.json and report.html from the files of a run directory, the same each time."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgebench.report import (
    charts,
    emulated_view,
    energy_view,
    faults_view,
    federated_view,
    machines_view,
    models_view,
    trade_offs,
    trust_view,
    view,
    wording,
)
from edgebench.report.standalone import rendered
from edgebench.report.tables import plain_table, standard_output
from edgebench.results.chunks import NEEDED
from edgebench.results.compute import result_of
from edgebench.results.figures import FaultFigures, Result, Span
from edgebench.results.run_fold import RunFold, folded
from edgebench.results.rundir import (
    MODELS,
    REPORT,
    RESULT,
    StoredRun,
    load_run,
    record_batches,
    write_atomically,
    write_json,
)
from edgebench.results.sample_figures import WorkloadFigures
from edgebench.topology.wording import things

if TYPE_CHECKING:
    from rich.console import Console


def write_report(run_dir: Path, *, page: bool = True) -> Result:
    """Write `result.json` and, where the page is asked for, `report.html` from the other files of a run directory.

    Raises EdgebenchError where it is none.
    """
    run = load_run(run_dir)
    fold = folded(run.deployment, run.observations, record_batches(run.path, NEEDED), run.rounds)
    return write_figures(run, fold, page=page)


def write_figures(run: StoredRun, fold: RunFold, *, page: bool = True) -> Result:
    """As `write_report`, of a run whose records were folded."""
    result = result_of(run.deployment, run.observations, fold, run.rounds)
    write_json(run.path / RESULT, result)
    if page:
        write_atomically(run.path / REPORT, _html(run, result, fold).encode())
    return result


def print_summary(result: Result, console: Console | None = None) -> None:
    """Print what matters most: a table that fits 80 columns, what the scenario is for (joint decisions, moves,
    cascades), the roll-outs, and the verdict with its reasons."""
    from rich.table import Table
    from rich.text import Text

    console = console or standard_output()
    table = plain_table()
    table.add_column("workload", overflow="fold", min_width=8)
    for name in ("due", "lost", "late", "p50 ms", "p99 ms", "per s", "quality"):
        table.add_column(name, justify="right", no_wrap=True)
    for name, each in result.workloads.items():
        table.add_row(
            Text(name),
            wording.count(each.scheduled),
            wording.count(each.lost),
            wording.count(each.late),
            wording.ms(each.latency_ms.p50 if each.latency_ms else None),
            wording.ms(each.latency_ms.p99 if each.latency_ms else None),
            wording.number(each.throughput_hz, 1),
            f"{wording.metric_name(each.quality.metric)} {wording.quality(each.quality.value)}",
        )
    console.print(table)
    for rollout in result.rollouts:
        if rollout.nodes:
            swapped = max(node.swapped_s for node in rollout.nodes.values())
            models = {model.digest: model for model in result.workloads[rollout.workload].models}
            held = models[rollout.digest].validated
            metric = (
                f", {wording.metric_name(held.metric)} {wording.quality(held.value)} on held-out data"
                if held is not None
                else ""
            )
            console.print(
                f"{rollout.workload}: model {rollout.digest[:8]} on {things(len(rollout.nodes), 'node')} "
                f"from {swapped:.1f} s on{metric}",
                markup=False,
                highlight=False,
            )
    for name, federation in result.federated.items():
        console.print(f"{name}: {federated_view.strategy_line(federation)}", markup=False, highlight=False)
    for line in (*trade_offs.summary_lines(result), *faults_view.summary_lines(result)):
        console.print(line, markup=False, highlight=False)
    if any(
        model.trained == "remembered" and model.runtime != "fake"
        for each in result.workloads.values()
        for model in each.models
    ):
        console.print("models are remembered of an earlier run (--retrain trains anew)", style="dim", highlight=False)
    if view.generated_note(result):
        console.print("quality was measured on generated data", style="dim", highlight=False)
    facts = (*emulated_view.emulated_facts(result), *trust_view.disturbed_lines(result))
    for line in (*facts, *trust_view.modelled_lines(result), *result.verdict.notes):
        console.print(line, markup=False, highlight=False)
    if result.verdict.valid:
        console.print("[green]valid[/green]", highlight=False)
        return
    console.print("[bold red]invalid[/bold red]", highlight=False)
    reasons = Table.grid(padding=(0, 1))
    for reason in result.verdict.reasons:
        reasons.add_row(Text(" ·", style="red"), Text(reason))
    console.print(reasons)


def _html(run: StoredRun, result: Result, fold: RunFold) -> str:
    figures = _Figures([] if result.disturbance is None else result.disturbance.spans, result.faults)
    drawn = _charts(run, result, fold, figures)
    links, more_links = view.link_tables(result)
    faults, more_faults = faults_view.fault_tables(result)
    emulated, more_emulated = emulated_view.emulated_tables(result)
    shown, of = charts.shown_processes(run.observations)
    models = [
        {
            "name": name,
            "real": each.quality.real,
            "figure": figures.add(charts.quality_chart(each)),
            "table": models_view.model_table(each),
            "swaps": models_view.swap_table(name, result),
            "lines": models_view.model_lines(name, result),
            "pictures": _pictures(run.path / MODELS, each),
        }
        for name, each in result.workloads.items()
    ]
    federations = _federations(result, fold, figures)
    return rendered(
        "report.html.j2",
        figures.by_id,
        result=result,
        facts=[*view.facts(result, run.deployment), *emulated_view.emulated_facts(result)],
        verdict=trust_view.verdict(result),
        tiles=view.tiles(result),
        generated_note=view.generated_note(result),
        figures_note=view.figures_note(result),
        tables={
            "workloads": view.workload_table(result),
            "quality": view.quality_table(result),
            "hops": view.hop_table(result),
            "compression": trade_offs.compression_table(result),
            "joint": trade_offs.joint_table(result),
            "paths": trade_offs.path_table(result),
            "handovers": trade_offs.handover_table(result),
            "replacements": trade_offs.replacement_table(result),
            "faults": faults,
            "more_faults": more_faults,
            "cascades": trade_offs.cascade_table(result),
            "chains": trade_offs.chain_table(result),
            "links": links,
            "more_links": more_links,
            "emulated": emulated,
            "more_emulated": more_emulated,
            "energy": energy_view.energy_table(result),
            "processes": view.process_table(result),
            "trust": trust_view.trust_table(result),
            "disturbance": trust_view.disturbance_table(result),
            "machines": machines_view.machine_table(result),
            "host": view.host_table(result),
        },
        charts=drawn,
        models=models,
        federations=federations,
        processes_note=f"The charts show the {shown} busiest of {of} processes." if shown < of else "",
        cascade_lines=trade_offs.cascade_lines(result),
        trust_lines=trust_view.trust_lines(result),
    )


def _federations(result: Result, fold: RunFold, figures: _Figures) -> list[dict[str, Any]]:
    return [
        {
            "name": name,
            "real": each.real,
            "quality": figures.add(federated_view.quality_over_time(each, fold.workloads[name])),
            "phases": figures.add(federated_view.phase_chart(each)),
            "rounds": federated_view.round_table(each),
            "others": federated_view.other_table(each),
            "metrics": federated_view.metrics_table(each),
            "links": federated_view.link_table(each),
            "shares": federated_view.share_table(each),
            "lines": federated_view.lines(each),
        }
        for name, each in result.federated.items()
    ]


def _pictures(folder: Path, workload: WorkloadFigures) -> list[dict[str, str]]:
    """What the workload's models can draw, each once."""
    from edgebench.tasks.images import caption_of

    files = [folder / f"{model.digest}.png" for model in workload.models]
    found = {file.read_bytes(): caption_of(file) for file in files if file.is_file()}
    return [
        {"source": f"data:image/png;base64,{base64.b64encode(content).decode()}", "caption": caption}
        for content, caption in found.items()
    ]


def _charts(run: StoredRun, result: Result, fold: RunFold, figures: _Figures) -> dict[str, Any]:
    observations = run.observations
    timelines = {name: each.timeline for name, each in fold.workloads.items()}
    by_time = [(name, charts.latency_chart(name, result, each)) for name, each in timelines.items()]
    span_s = result.streamed_s if result.streamed_s is not None else result.duration_s
    return {
        "hops": figures.add(charts.hop_chart(result)),
        "latency": [{"name": name, "figure": figures.add(chart)} for name, chart in by_time if chart is not None],
        "throughput": figures.add(charts.throughput_chart(timelines)),
        "cpu": figures.add(charts.cpu_chart(observations, span_s)),
        "memory": figures.add(charts.memory_chart(observations, span_s)),
    }


class _Figures:
    """The figures of one page, by the id of the element that each is drawn in; disturbed seconds and faults are marked
    in all."""

    def __init__(self, disturbed: Sequence[Span], faults: Sequence[FaultFigures]) -> None:
        self._disturbed = disturbed
        self._faults = faults
        self.by_id: dict[str, charts.Chart] = {}

    def add(self, chart: charts.Chart | None) -> dict[str, Any] | None:
        """Give it an id; None stays None."""
        if chart is None:
            return None
        name = f"chart-{len(self.by_id) + 1}"
        self.by_id[name] = charts.with_faults(charts.with_disturbed(chart, self._disturbed), self._faults)
        return {"id": name, "height": chart["layout"]["height"]}
