"""`capacity.html`: what load a workload holds, with the curve on the way there drawn."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from edgebench.report.capacity_view import cells_of, columns_of, head_of, lines_of
from edgebench.report.charts import Chart, base_layout, line, rule, short
from edgebench.report.standalone import rendered
from edgebench.report.wording import metric_name
from edgebench.results.capacities import Capacity, LoadPoint
from edgebench.results.rundir import write_atomically

PAGE = "capacity.html"
_HEIGHT_PX = 320


def write_page(found: Capacity) -> None:
    """Write it into the folder of the search."""
    charts = charts_of(found)
    page = rendered(
        "capacity.html.j2",
        charts,
        name=f"{found.topology}, {found.workload}",
        head=head_of(found),
        lines=[*lines_of(found), *found.notes],
        columns=columns_of(found),
        limit=found.limit,
        rows=[(list(cells_of(found, point)), point.load == found.limit) for point in found.curve],
        heights={name: chart["layout"]["height"] for name, chart in charts.items()},
    )
    write_atomically(Path(found.folder) / PAGE, page.encode())


def charts_of(found: Capacity) -> dict[str, Chart]:
    """By the figure: latency, throughput and, where it is known, quality, each by the load. Nothing between two loads
    is known, so steps lead from one to the next."""
    loads = [point.load for point in found.curve]
    latency = [
        _steps(found, "p50", lambda point: point.p50_ms, "--series-2"),
        _steps(found, "p99", lambda point: point.p99_ms, "--series-1"),
        _steps(found, "p99 of the worst seed", lambda point: point.p99_most_ms, "--series-3"),
        line("bound", [loads[0], loads[-1]], [found.bound_ms] * 2, "--mark", hover="%{y} ms"),
    ]
    throughput = [
        _steps(found, "fall due", lambda point: point.offered_hz, "--series-2"),
        _steps(found, "are decided", lambda point: point.throughput_hz, "--series-1"),
    ]
    charts = {"latency": _chart(found, latency, "ms"), "throughput": _chart(found, throughput, "samples/s")}
    charts["latency"]["layout"]["yaxis"] |= {"type": "log"}
    if any(point.quality is not None for point in found.curve):
        name = metric_name(found.metric)
        charts["quality"] = _chart(found, [_steps(found, name, lambda point: point.quality, "--series-1")], name)
    return charts


def _steps(found: Capacity, name: str, of: Callable[[LoadPoint], float | None], colour: str) -> dict[str, Any]:
    known = [(point.load, short(value)) for point in found.curve if (value := of(point)) is not None]
    trace = line(name, [load for load, _ in known], [value for _, value in known], colour, hover="%{x}: %{y}")
    trace["line"] |= {"shape": "hv"}
    return trace | {"mode": "lines+markers"}


def _chart(found: Capacity, data: list[dict[str, Any]], unit: str) -> Chart:
    layout = base_layout(_HEIGHT_PX, "devices" if found.by == "devices" else "Hz on each device", unit)
    layout["xaxis"] |= {"type": "log"}
    if found.limit is not None:
        layout["shapes"] = [rule("x", found.limit)]
    return {"data": data, "layout": layout}
