"""`sweep.html`: what came of a sweep, with its front and its crossings drawn."""

from __future__ import annotations

import html
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from edgebench.report.charts import SERIES, Chart, base_layout, short
from edgebench.report.comparison_view import number
from edgebench.report.standalone import rendered
from edgebench.report.wording import NONE
from edgebench.results.comparison.settings import key_of
from edgebench.results.fronts import Crossing, OnFront, Swept
from edgebench.results.rundir import write_atomically
from edgebench.results.sweeps import Ranked, Settings, in_words, kinds_of, shown

PAGE = "sweep.html"
_HEIGHT_PX = 380


def write_page(swept: Swept, name: str, across: tuple[str, str] | None) -> None:
    """Write it into the sweep's folder. across: the settings along which, and between which, crossings were sought."""
    charts: dict[str, Chart] = {}
    if swept.front:
        charts["front"] = front_chart(swept.front)
    if across is not None and swept.figure is not None:
        for place, chart in enumerate(crossing_charts(swept, swept.figure, *across)):
            charts[f"crossing-{place}"] = chart
    page = rendered(
        "sweep.html.j2",
        charts,
        name=name,
        cells=swept.cells,
        kinds=kinds_of(swept.cells),
        figure=swept.figure,
        leaderboard=[_row(each) for each in swept.leaderboard],
        figures=list(swept.front[0].values) if swept.front else [],
        front=[
            (
                in_words(each.settings),
                each.figures or NONE,
                [number(value) for value in each.values.values()],
                each.on_front,
            )
            for each in swept.front
        ],
        crossings=[(in_words(each.settings), said(each), each) for each in swept.crossings],
        notes=swept.notes,
        heights={name: chart["layout"]["height"] for name, chart in charts.items()},
        troubles=[
            (in_words(cell.settings), cell.seed, cell.state, cell.problem)
            for cell in swept.cells
            if cell.state != "valid"
        ],
    )
    write_atomically(Path(swept.folder) / PAGE, page.encode())


def _row(each: Ranked) -> tuple[str, ...]:
    interval = NONE if each.interval is None else f"[{number(each.interval[0])}, {number(each.interval[1])}]"
    counts = (str(count) for count in (each.valid, each.invalid, each.failed, each.unscored))
    return in_words(each.settings), each.figures or NONE, number(each.mean), interval, *counts


def said(crossing: Crossing) -> str:
    """In words."""
    if crossing.at is None:
        ends = f"at {number(crossing.low)} {shown(crossing.below)} is best, at {number(crossing.high)}"
        return f"{ends} {shown(crossing.above)}; not both are valid at both, so nothing tells where that changes"
    between = f"between {number(crossing.low)} and {number(crossing.high)}"
    return f"{shown(crossing.below)} is better below {number(crossing.at)} ({between}), {shown(crossing.above)} above"


def front_chart(found: Sequence[OnFront]) -> Chart:
    """All settings by the first two figures, and those that nothing beats joined by a line."""
    first, second = list(found[0].values)[:2]
    best = [each for each in found if each.on_front]
    others = [each for each in found if not each.on_front]
    data = [
        _points("beaten", others, first, second, "markers", "--line-soft"),
        _points("not beaten", best, first, second, "lines+markers", "--line-strong"),
    ]
    return {"data": data, "layout": base_layout(_HEIGHT_PX, first, second)}


def _points(name: str, those: Sequence[OnFront], first: str, second: str, mode: str, colour: str) -> dict[str, Any]:
    return {
        "type": "scatter",
        "mode": mode,
        "name": name,
        "x": [short(each.values[first]) for each in those],
        "y": [short(each.values[second]) for each in those],
        "text": [html.escape(in_words(each.settings)) for each in those],
        "marker": {"color": colour, "size": 8},
        "line": {"color": colour, "width": 1.5, "shape": "hv"},
        "hovertemplate": "%{text}<br>%{x}, %{y}<extra></extra>",
    }


def crossing_charts(swept: Swept, figure: str, along: str, between: str) -> Iterator[Chart]:
    """A chart for each of the other settings: the figure along one setting, a line for each value of another."""
    groups: dict[bytes, tuple[Settings, list[Ranked]]] = {}
    for each in swept.leaderboard:
        if along in each.settings and between in each.settings and each.mean is not None:
            rest = {path: value for path, value in each.settings.items() if path not in (along, between)}
            groups.setdefault(key_of(rest), (rest, []))[1].append(each)
    for key, (rest, those) in groups.items():
        at = [each.at for each in swept.crossings if each.at is not None and key_of(each.settings) == key]
        yield _crossing_chart(rest, those, figure, along, between, at)


def _crossing_chart(
    rest: Settings, those: Sequence[Ranked], figure: str, along: str, between: str, at: Sequence[float]
) -> Chart:
    lines: dict[bytes, list[Ranked]] = {}
    for each in sorted(those, key=lambda each: float(each.settings[along])):
        lines.setdefault(key_of(each.settings[between]), []).append(each)
    data = []
    for place, of in enumerate(lines.values()):
        colour = f"--series-{place % SERIES + 1}"
        means = [short(each.mean or 0.0) for each in of]
        spread = [
            [abs(end - mean) for end in each.interval or (mean, mean)] for each, mean in zip(of, means, strict=True)
        ]
        data.append(
            {
                "type": "scatter",
                "mode": "lines+markers",
                "name": html.escape(shown(of[0].settings[between])),
                "x": [float(each.settings[along]) for each in of],
                "y": means,
                "error_y": {
                    "type": "data",
                    "symmetric": False,
                    "arrayminus": [short(low) for low, _ in spread],
                    "array": [short(high) for _, high in spread],
                    "color": colour,
                },
                "line": {"color": colour, "width": 1.8},
                "marker": {"color": colour},
                "hovertemplate": "%{x}: %{y}<extra>%{fullData.name}</extra>",
            }
        )
    title = along if not rest else f"{along} ({in_words(rest)})"
    layout = base_layout(_HEIGHT_PX, title, figure)
    if all(float(each.settings[along]) > 0 for each in those):
        layout["xaxis"] |= {"type": "log"}
    layout["shapes"] = [
        {
            "type": "line",
            "x0": each,
            "x1": each,
            "y0": 0,
            "y1": 1,
            "yref": "paper",
            "line": {"color": "--ink-soft", "width": 1, "dash": "dot"},
        }
        for each in at
    ]
    return {"data": data, "layout": layout}
