"""The charts of a report, as Plotly figures in plain data.

A colour is the name of a custom property of the style sheet (`--hop-queue`); the page puts in the value that suits the
reader's light or dark screen. Times are s from the start of the streams.
"""

from __future__ import annotations

import html
import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

from edgebench.clock import NS_PER_S
from edgebench.report.wording import fault_name, hop_name, metric_name, process_name, shown_hops
from edgebench.results.chunks import ms
from edgebench.results.figures import FaultFigures, Result, Span
from edgebench.results.observations import Observations
from edgebench.results.sample_figures import Hops, HopStatistics, WorkloadFigures
from edgebench.results.timeline import Timeline, by, since_start_s

SERIES = 6
_MOST_POINTS = 400
_MB = 1e6
_SHARE_BEFORE = 0.1
_MOST_NAMED = 12
_MOST_MARKS = 1_000

OVER_TIME = "s from the start of the streams"

Chart = dict[str, Any]


def _mean_ms(hops: Hops, hop: str) -> float | None:
    """None of a hop that a workload does not have, too."""
    spread: HopStatistics | None = getattr(hops, hop)
    return None if spread is None else spread.mean


def hop_chart(result: Result) -> Chart | None:
    """Mean time in each hop, stacked to the mean latency, a bar a workload."""
    shown = [(name, figures.hops_ms) for name, figures in result.workloads.items() if figures.hops_ms is not None]
    if not shown:
        return None
    names = [html.escape(name) for name, _ in shown]
    data = [
        {
            "type": "bar",
            "orientation": "h",
            "name": hop_name(hop),
            "y": names,
            # Of a hop between machines it may not be known well enough.
            "x": [None if (mean := _mean_ms(hops, hop)) is None else short(mean) for _, hops in shown],
            "marker": {"color": f"--hop-{hop}", "line": {"width": 0}},
            "hovertemplate": "%{y}: " + hop_name(hop) + " %{x:.2f} ms<extra></extra>",
        }
        for hop in shown_hops(result)
    ]
    layout = base_layout(110 + 36 * len(shown), "mean ms from due time to arrival")
    layout |= {"barmode": "stack", "bargap": 0.35}
    layout["legend"] |= {"traceorder": "normal"}
    layout["yaxis"] |= {"autorange": "reversed", "showgrid": False, "zeroline": False}
    layout["xaxis"] |= {"showgrid": True, "rangemode": "tozero"}
    return {"data": data, "layout": layout}


def latency_chart(name: str, result: Result, timeline: Timeline) -> Chart | None:
    """The p50 and p99 of one workload by the due time of its samples; swaps and moves as vertical lines,
    losses as crosses."""
    decided = len(timeline.latency_ns)
    if not decided:
        return None
    width_s, narrow = timeline.axis.wider(decided)
    at: list[float] = []
    p50: list[float] = []
    p99: list[float] = []
    for each, (middle, high) in timeline.percentiles_by(narrow, (0.5, 0.99)).items():
        at.append(short((each + 0.5) * width_s))
        p50.append(short(ms(middle)))
        p99.append(short(ms(high)))
    data: list[dict[str, Any]] = [
        line(f"p99 in {width_s:g} s", at, p99, "--line-strong", hover="%{x} s: p99 %{y:.1f} ms"),
        line(f"p50 in {width_s:g} s", at, p50, "--line-soft", hover="%{x} s: p50 %{y:.1f} ms"),
    ]
    lost = dict(sorted(by(timeline.lost, narrow).items()))
    if lost:
        data.append(
            {
                "type": "scatter",
                "mode": "markers",
                "name": "lost",
                "x": [short((each + 0.5) * width_s) for each in lost],
                "y": [0.0] * len(lost),
                "cliponaxis": False,
                "customdata": list(lost.values()),
                "marker": {"color": "--bad", "symbol": "x", "size": 8},
                "hovertemplate": "%{x} s: %{customdata} lost<extra></extra>",
            }
        )
    layout = base_layout(200, OVER_TIME, "ms")
    layout["xaxis"] |= {"range": [0, short(timeline.axis.span_s)]}
    figures = result.workloads[name]
    layout["shapes"], layout["annotations"] = _marks(name, result, figures, max(p99))
    return {"data": data, "layout": layout}


def throughput_chart(timelines: Mapping[str, Timeline]) -> Chart | None:
    """Decisions that arrived in each s, by workload."""
    data = []
    span_s = 0.0
    for place, (name, timeline) in enumerate(timelines.items()):
        decided, span_s = len(timeline.latency_ns), timeline.axis.span_s
        if not decided:
            continue
        width_s, narrow = timeline.axis.wider(decided)
        arrived = by(timeline.arrived, narrow)
        # The last bin is whole only by luck; the rate over a part of it would be drawn too low.
        whole = range(int(span_s / width_s + 1e-9))
        at = [short((each + 0.5) * width_s) for each in whole]
        rates = [short(arrived[each] / width_s) for each in whole]
        data.append(line(name, at, rates, _series(place), hover="%{x} s: %{y:.1f} decisions/s"))
    if not data:
        return None
    layout = base_layout(220, OVER_TIME, "decisions/s")
    layout["xaxis"] |= {"range": [0, short(span_s)]}
    return {"data": data, "layout": layout}


def quality_chart(figures: WorkloadFigures) -> Chart | None:
    """Where there is more than one model: the quality of each on held-out data beside its quality in the stream."""
    shown = [model for model in figures.models if model.announced or model.n]
    if len(shown) < 2 or not any(model.quality.value is not None for model in shown):
        return None
    labels = [html.escape(f"{model.digest[:8]} {model.origin}") for model in shown]
    stream = [
        (label, model.quality) for label, model in zip(labels, shown, strict=True) if model.quality.value is not None
    ]
    held = [
        (label, model.validated)
        for label, model in zip(labels, shown, strict=True)
        if model.validated is not None and model.validated.value is not None
    ]
    data: list[dict[str, Any]] = [
        {
            "type": "scatter",
            "mode": "markers",
            "name": "in the stream, 95 % interval",
            "y": [label for label, _ in stream],
            "x": [quality.value for _, quality in stream],
            "error_x": {
                "type": "data",
                "symmetric": False,
                "array": [short(_reach(quality.value, quality.interval, 1)) for _, quality in stream],
                "arrayminus": [short(_reach(quality.value, quality.interval, 0)) for _, quality in stream],
                "color": "--line-strong",
                "thickness": 1.5,
                "width": 5,
            },
            "marker": {"color": "--line-strong", "size": 9},
            "hovertemplate": "%{y}: %{x:.3f} in the stream<extra></extra>",
        },
        {
            "type": "scatter",
            "mode": "markers",
            "name": "on held-out data",
            "y": [label for label, _ in held],
            "x": [validated.value for _, validated in held],
            "marker": {"color": "--series-1", "size": 10, "symbol": "diamond-open", "line": {"width": 2}},
            "hovertemplate": "%{y}: %{x:.3f} on held-out data<extra></extra>",
        },
    ]
    layout = base_layout(110 + 34 * len(shown), metric_name(figures.quality.metric))
    layout["xaxis"] |= {"showgrid": True, "zeroline": False}
    layout["yaxis"] |= {
        "categoryorder": "array",
        "categoryarray": labels[::-1],
        "showgrid": False,
        "range": [-0.6, len(shown) - 0.4],
    }
    return {"data": data, "layout": layout}


def cpu_chart(observations: Observations, span_s: float) -> Chart | None:
    """Cores that each process kept busy between two of its reports, and the whole machine."""
    data: list[dict[str, Any]] = []
    # Of the processors that the run may use, as `busy` is a share of; earlier runs tell of all that there are alone.
    cores = observations.host.get("usable_cores", observations.host.get("cores"))
    host = [(since_start_s(observations, use.at_ns), use.busy) for use in observations.host_usage]
    if host and isinstance(cores, int | float):
        at, busy = _thinned([at for at, _ in host], [share * cores for _, share in host])
        data.append(line("whole machine", at, busy, "--line-faint", hover="%{x} s: machine %{y:.2f} cores", fill=True))
    for place, process in enumerate(_busiest(observations)):
        usage = observations.usage[process]
        steps = [
            (
                since_start_s(observations, after.at_ns),
                (after.cpu_s - before.cpu_s) * NS_PER_S / (after.at_ns - before.at_ns),
            )
            for before, after in itertools.pairwise(usage)
            if after.at_ns > before.at_ns
        ]
        at, busy = _thinned([at for at, _ in steps], [cores for _, cores in steps])
        data.append(line(_label(observations, process), at, busy, _series(place), hover="%{x} s: %{y:.2f} cores"))
    return _over_time(data, "cores busy", span_s)


def memory_chart(observations: Observations, span_s: float) -> Chart | None:
    """Resident memory of each process."""
    data = []
    for place, process in enumerate(_busiest(observations)):
        usage = observations.usage[process]
        at, used = _thinned(
            [since_start_s(observations, sample.at_ns) for sample in usage],
            [sample.rss_bytes / _MB for sample in usage],
        )
        data.append(line(_label(observations, process), at, used, _series(place), hover="%{x} s: %{y:.0f} MB"))
    return _over_time(data, "MB resident", span_s)


def shown_processes(observations: Observations) -> tuple[int, int]:
    """How many processes the charts show, and of how many."""
    return len(_busiest(observations)), len(observations.usage)


def _busiest(observations: Observations) -> list[str]:
    seen = [process for process, usage in observations.usage.items() if usage]
    return sorted(seen, key=lambda process: (-observations.usage[process][-1].cpu_s, process))[:SERIES]


def _label(observations: Observations, process: str) -> str:
    return process_name(process, observations.hosts_of.get(process, []))


def _marks(
    name: str, result: Result, figures: WorkloadFigures, highest_ms: float
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    federated = result.federated.get(name)
    rounds = [] if federated is None else federated.rounds
    held = [(r.started_s, r.duration_s) for r in rounds if r.started_s is not None and r.duration_s is not None]
    shapes = [_shaded(start_s, start_s + took_s) for start_s, took_s in held]
    annotations: list[dict[str, Any]] = []
    for rollout in result.rollouts:
        times = [node.swapped_s for node in rollout.nodes.values()] if rollout.workload == name else []
        shapes += [rule("x", at) for at in _apart(sorted(times), result.duration_s / 200)]
        if times:
            text = f"swap to {rollout.digest[:8]}"
            annotations.append(
                note(text, x=short(min(times)), y=1.0, yref="paper", xanchor="left", yanchor="top", xshift=4)
            )
    moves = [(each.at_s, each.site, each.to) for each in result.replacements if each.workload == name]
    shapes += [rule("x", at) for at in _apart([at for at, _, _ in moves], result.duration_s / 200)]
    for place, (at_s, site, to) in enumerate(moves[:_MOST_NAMED]):
        # One below the other, since the next may be near.
        y = 1.0 - 0.1 * (place % 4)
        text = f"{site} to the {to}"
        annotations.append(note(text, x=short(at_s), y=y, yref="paper", xanchor="left", yanchor="top", xshift=4))
    # A deadline far above what happened would press the curves flat.
    if figures.deadline_ms is not None and figures.deadline_ms <= 2 * highest_ms:
        shapes.append(rule("y", figures.deadline_ms))
        text = f"deadline {figures.deadline_ms:g} ms"
        annotations.append(note(text, x=1.0, xref="paper", y=figures.deadline_ms, xanchor="right", yanchor="bottom"))
    return shapes, annotations


def _apart(times: list[float], least_s: float) -> list[float]:
    """The sorted times without those that would be drawn on top of the one before."""
    kept: list[float] = []
    for at in times:
        if not kept or at - kept[-1] >= least_s:
            kept.append(short(at))
    return kept


def rule(axis: str, at: float) -> dict[str, Any]:
    """A line across the chart at a place of the axis."""
    line = {"color": "--mark", "width": 1.2, "dash": "dash" if axis == "x" else "dot"}
    if axis == "x":
        return {"type": "line", "x0": at, "x1": at, "y0": 0, "y1": 1, "yref": "paper", "line": line}
    return {"type": "line", "y0": at, "y1": at, "x0": 0, "x1": 1, "xref": "paper", "line": line}


def note(text: str, **place: Any) -> dict[str, Any]:
    """A word at a place of the chart."""
    return {"text": html.escape(text), "showarrow": False, "font": {"color": "--mark", "size": 11}, **place}


def with_disturbed(chart: Chart, spans: Sequence[Span]) -> Chart:
    """The chart with a band over each of the disturbed seconds, if it is one over time."""
    layout = chart["layout"]
    if layout["xaxis"]["title"]["text"] != OVER_TIME or not spans:
        return chart
    bands = [_shaded(span.from_s, span.to_s, "--bad", 0.13) for span in spans]
    return chart | {"layout": layout | {"shapes": [*bands, *layout.get("shapes", [])]}}


def with_faults(chart: Chart, faults: Sequence[FaultFigures]) -> Chart:
    """The chart with a line where each fault began and a band as long as it lasted, if it is one over time; their names
    stand beside the first few. Of thousands those that lie too near to each other to be told apart are drawn as one."""
    layout = chart["layout"]
    happened = [(fault, fault.at_s) for fault in faults if fault.at_s is not None]
    if layout["xaxis"]["title"]["text"] != OVER_TIME or not happened:
        return chart
    spans = [(at_s, fault.until_s) for fault, at_s in happened if fault.until_s is not None]
    begun_s = sorted(at_s for _, at_s in happened)
    least_s = (max([begun_s[-1], *(to_s for _, to_s in spans)]) - begun_s[0]) / _MOST_MARKS
    bands = [_shaded(from_s, to_s, "--mark", 0.1) for from_s, to_s in _joined(spans, least_s)]
    rules = [rule("x", at_s) for at_s in (_apart(begun_s, least_s) if len(begun_s) > _MOST_MARKS else begun_s)]
    names = [
        note(fault_name(fault), x=short(at_s), y=0.0, yref="paper", xanchor="left", yanchor="bottom")
        for fault, at_s in happened[: _MOST_NAMED if len(happened) <= _MOST_NAMED else 0]
    ]
    marks = {
        "shapes": [*bands, *rules, *layout.get("shapes", [])],
        "annotations": [*names, *layout.get("annotations", [])],
    }
    return chart | {"layout": layout | marks}


def _joined(spans: Sequence[tuple[float, float]], least_s: float) -> list[tuple[float, float]]:
    """Spans of time as they are; of many, those that begin within `least_s` of a first one as one, as long as the time
    that they take, each moment of it once."""
    if len(spans) <= _MOST_MARKS:
        return list(spans)
    found: list[tuple[float, float]] = []
    furthest_s = -math.inf
    for from_s, to_s in sorted(spans):
        if found and from_s < found[-1][0] + least_s:
            first_s, until_s = found[-1]
            found[-1] = first_s, until_s + max(0.0, to_s - max(from_s, furthest_s))
            furthest_s = max(furthest_s, to_s)
        else:
            found.append((from_s, to_s))
            furthest_s = to_s
    return found


def _shaded(start_s: float, end_s: float, colour: str = "--line-faint", opacity: float = 0.35) -> dict[str, Any]:
    """From a time to another; as it is, while a federated round goes on."""
    across = {"type": "rect", "x0": short(start_s), "x1": short(end_s), "y0": 0, "y1": 1, "yref": "paper"}
    return across | {"fillcolor": colour, "opacity": opacity, "line": {"width": 0}, "layer": "below"}


def _over_time(data: list[dict[str, Any]], unit: str, span_s: float) -> Chart | None:
    if not any(len(trace["x"]) for trace in data):
        return None
    layout = base_layout(230, OVER_TIME, unit)
    times = [at for trace in data for at in trace["x"]]
    # Preparing may have taken longer than the streams; only its end is shown.
    earliest = max(min([0.0, *times]), -_SHARE_BEFORE * span_s)
    layout["xaxis"] |= {"range": [short(earliest), max([span_s, *times])]}
    return {"data": data, "layout": layout}


def line(name: str, x: list[float], y: list[float], colour: str, *, hover: str, fill: bool = False) -> dict[str, Any]:
    """A curve; its single point where there is one only."""
    trace: dict[str, Any] = {
        "type": "scatter",
        "mode": "lines" if len(x) > 1 else "markers",
        "name": html.escape(name),
        "x": x,
        "y": y,
        "line": {"color": colour, "width": 0 if fill else 1.8},
        "marker": {"color": colour},
        "hovertemplate": f"{html.escape(name)}<br>{hover}<extra></extra>",
    }
    return trace | {"fill": "tozeroy", "fillcolor": colour} if fill else trace


def base_layout(height_px: int, x_title: str, y_title: str = "") -> dict[str, Any]:
    """What all charts have in common."""
    axis = {"gridcolor": "--rule", "linecolor": "--rule", "zerolinecolor": "--rule", "automargin": True, "ticks": ""}
    return {
        "height": height_px,
        "margin": {"l": 8, "r": 12, "t": 36, "b": 8},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "font": {"color": "--ink-soft", "size": 12, "family": "system-ui, -apple-system, 'Segoe UI', sans-serif"},
        "showlegend": True,
        "legend": {"orientation": "h", "x": 0, "xanchor": "left", "y": 1.02, "yanchor": "bottom"},
        "hovermode": "closest",
        "xaxis": {**axis, "title": {"text": html.escape(x_title), "font": {"size": 11}}, "showgrid": False},
        "yaxis": {**axis, "title": {"text": html.escape(y_title), "font": {"size": 11}}, "rangemode": "tozero"},
    }


def _thinned(x: list[float], y: list[float]) -> tuple[list[float], list[float]]:
    """Means of neighbours, so that a long run is not drawn in more points than a screen has."""
    step = max(1, math.ceil(len(x) / _MOST_POINTS))
    starts = range(0, len(x), step)
    return (
        [short(sum(x[start : start + step]) / len(x[start : start + step])) for start in starts],
        [short(sum(y[start : start + step]) / len(y[start : start + step])) for start in starts],
    )


def _reach(value: float | None, interval: tuple[float, float] | None, end: int) -> float:
    return 0.0 if value is None or interval is None else abs(interval[end] - value)


def _series(place: int) -> str:
    return f"--series-{place % SERIES + 1}"


def short(value: float) -> float:
    """As many digits as a chart shows."""
    return round(value, 4)
