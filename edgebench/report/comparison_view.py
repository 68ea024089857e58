"""What runs differ in, for people: settings, then figures by what they are of, with the interval of each difference."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import msgspec

from edgebench.report.tables import plain_table, standard_output
from edgebench.report.wording import NONE
from edgebench.results.comparison.figures import Comparison, FigureDifference, SettingDifference, SideCompared
from edgebench.topology.wording import things

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

_WIDTH = 120
_MOST_ROWS = 12
"""Of links and processes: the rest stands in the JSON."""
_MOST_SHOWN = 60
_HOP_FIGURES = ("mean", "p99")


def print_comparison(comparison: Comparison, console: Console | None = None) -> None:
    """Print it: first what the sides are and what differs, then a table a workload, federation and so on."""
    console = console or standard_output()
    for side in comparison.sides:
        for line in _side_lines(side):
            console.print(line, markup=False, highlight=False)
    for title, settings in (
        ("topology", comparison.topology),
        ("versions", comparison.versions),
        ("host", comparison.host),
    ):
        if settings:
            console.print(_settings_table(title, settings, comparison))
        else:
            console.print(f"{title}: the same", highlight=False)
    for what, sides in comparison.only.items():
        console.print(f"in {' and '.join(sides)} only: {what}", markup=False, highlight=False)
    for name, figures in comparison.against.items():
        for title, group in _groups(figures).items():
            console.print()
            console.print(_figures_table(title, group, comparison.sides[0].name, name))
            if len(group) > len(shown := _shown(title, group)):
                console.print(f"  and {things(len(group) - len(shown), 'figure')} more in --json", highlight=False)
    console.print()
    for line in _notes(comparison):
        console.print(line, markup=False, highlight=False)


def written(comparison: Comparison) -> str:
    """The same as text, of a fixed width."""
    from rich.console import Console

    into = io.StringIO()
    print_comparison(comparison, Console(file=into, width=_WIDTH, color_system=None))
    return "\n".join(line.rstrip() for line in into.getvalue().splitlines()) + "\n"


def _side_lines(side: SideCompared) -> Iterator[str]:
    for place, run in enumerate(side.runs):
        what = f"{run.name}, {run.executor}, seed {run.seed}, {run.figures}"
        state = "valid" if run.valid else f"INVALID: {run.reasons[0]}"
        more = f" (and {len(run.reasons) - 1} more)" if len(run.reasons) > 1 else ""
        yield f"{side.name if place == 0 else ' '}  {run.folder}: {what}; {state}{more}"


def _settings_table(title: str, settings: list[SettingDifference], comparison: Comparison) -> Table:
    from rich.text import Text

    table = plain_table()
    table.add_column(title, overflow="fold")
    for side in comparison.sides:
        table.add_column(side.name, overflow="fold")
    for each in settings:
        path = each.path if each.places == 1 else f"{each.path} ({each.places:,} times)"
        cells = [_cell(each.values[side.name]) if side.name in each.values else NONE for side in comparison.sides]
        table.add_row(*(Text(cell) for cell in (path, *cells)))
    return table


def _cell(value: Any) -> str:
    text = value if isinstance(value, str) else msgspec.json.encode(value).decode()
    return text if len(text) <= _MOST_SHOWN else f"{text[:_MOST_SHOWN]}…"


def _groups(figures: Iterable[FigureDifference]) -> dict[str, list[FigureDifference]]:
    """By what they are of: each workload, federation and joint decision for itself, all links, all processes."""
    found: dict[str, list[FigureDifference]] = {}
    for each in figures:
        kind, name = each.figure.split(".")[:2]
        titles = {"workloads": name, "federated": f"{name}, federated", "joint": f"{name}, joint"}
        found.setdefault(titles.get(kind, kind), []).append(each)
    return found


def _shown(title: str, figures: list[FigureDifference]) -> list[FigureDifference]:
    if title in ("links", "processes"):
        return sorted(figures, key=lambda each: -abs(each.percent or 0.0))[:_MOST_ROWS]
    some = [each for each in figures if each.figure.split(".")[2] != "hops_ms" or _is_shown_hop(each)]
    return some if len(some) > 1 else figures


def _is_shown_hop(figure: FigureDifference) -> bool:
    return figure.figure.endswith(_HOP_FIGURES) and not figure.first == figure.other == 0


def _figures_table(title: str, figures: list[FigureDifference], first: str, other: str) -> Table:
    from rich.text import Text

    table = plain_table()
    table.add_column(title, overflow="fold")
    for name in (first, other, f"{other} - {first}, interval"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    for each in _shown(title, figures):
        interval = number(each.difference)
        if each.interval is not None:
            interval = f"[{number(each.interval[0])}, {number(each.interval[1])}]{'*' * each.narrow}"
        named = each.figure.split(".", 1 if title in ("links", "processes") else 2)[-1]
        table.add_row(
            Text(named),
            number(each.first),
            number(each.other),
            Text(interval),
            Text(_said(each), style="bold" if each.shown in ("higher", "lower") else "dim"),
        )
    return table


def _said(figure: FigureDifference) -> str:
    if figure.shown in ("higher", "lower") and figure.percent is not None:
        return f"{figure.shown} by {abs(figure.percent):.1f} %"
    return figure.shown


def _notes(comparison: Comparison) -> Iterator[str]:
    figures = [each for found in comparison.against.values() for each in found]
    told = [each for each in figures if each.interval is not None]
    level = f"{100 * comparison.level:g} %"
    for why in dict.fromkeys(each.why for each in figures if each.why):
        yield f"No interval: {why}."
    if not told:
        return
    yield (
        f"Intervals: {level}, of {things(len(told), 'figure')}; where nothing differs, some "
        f"{max(1, round((1 - comparison.level) * len(told)))} of them show a difference by chance."
    )
    blocks = [each.blocks_s for each in told if each.blocks_s is not None]
    if blocks:
        lengths = [length for pair in blocks for length in pair]
        yield (
            f"By time blocks: {min(lengths):.3g} to {max(lengths):.3g} s long, {comparison.resamples:,} resamples. "
            "How far two runs of the same differ is not in them: give several runs a side."
        )
    if any(each.by == "runs" for each in told):
        yield "By runs: from how far the runs of a side differ."
    if any(each.narrow for each in told):
        yield (
            "*: what went on hangs together for longer than a tenth of the run, so that chance goes further than the "
            "interval says (a longer run tells)."
        )


def number(value: float | None) -> str:
    """With four digits that count."""
    if value is None:
        return NONE
    if value == 0 or not abs(value) < 1e15:
        return f"{value:g}"
    if abs(value) >= 1_000:
        return f"{value:,.0f}"
    return f"{value:.4g}"
