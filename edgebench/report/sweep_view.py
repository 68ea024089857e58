"""What came of a sweep, for people: its leaderboard, and the cells that tell nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgebench.report.comparison_view import number
from edgebench.report.sweep_page import said
from edgebench.report.tables import plain_table, standard_output
from edgebench.report.wording import NONE
from edgebench.results.fronts import Swept
from edgebench.results.sweeps import in_words, kinds_of
from edgebench.topology.wording import things

if TYPE_CHECKING:
    from rich.console import Console


def print_sweep(swept: Swept, console: Console | None = None) -> None:
    """Print it."""
    from rich.text import Text

    console = console or standard_output()
    if swept.figure is not None:
        table = plain_table()
        table.add_column("settings", overflow="fold")
        unscored = ("unscored",) if any(each.unscored for each in swept.leaderboard) else ()
        counted = ("valid", "invalid", "failed", *unscored)
        table.add_column("figures")
        for name in ("mean", "interval", *counted):
            table.add_column(name, justify="right")
        for each in swept.leaderboard:
            interval = "–" if each.interval is None else f"[{number(each.interval[0])}, {number(each.interval[1])}]"
            counts = (str(getattr(each, name)) for name in counted)
            kind = each.figures or NONE
            table.add_row(Text(in_words(each.settings)), kind, number(each.mean), Text(interval), *counts)
        console.print(f"best first, by {swept.figure}", markup=False, highlight=False)
        console.print(table)
    elif kinds := kinds_of(swept.cells):
        console.print(f"{things(len(swept.cells), 'cell')}: {kinds}", markup=False, highlight=False)
    unbeaten = [each for each in swept.front if each.on_front]
    for best in unbeaten:
        values = ", ".join(f"{name} {number(value)}" for name, value in best.values.items())
        kind = "" if best.figures is None else f" ({best.figures})"
        console.print(f"not beaten: {in_words(best.settings)}: {values}{kind}", markup=False, highlight=False)
    for crossing in swept.crossings:
        rest = f" ({in_words(crossing.settings)})" if crossing.settings else ""
        console.print(f"crossing: {said(crossing)}{rest}", markup=False, highlight=False)
    for note in swept.notes:
        console.print(note, markup=False, highlight=False)
    for cell in swept.cells:
        if cell.state != "valid":
            line = f"{cell.state}: {in_words(cell.settings)}, seed {cell.seed}: {cell.problem}"
            console.print(line, markup=False, highlight=False)
