"""What load a workload holds, for people: the curve, and the limit in a sentence."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from edgebench.report.tables import plain_table, standard_output
from edgebench.report.wording import metric_name, ms, number, quality
from edgebench.results.capacities import Capacity, LoadPoint
from edgebench.topology.wording import things

if TYPE_CHECKING:
    from rich.console import Console


def print_capacity(found: Capacity, console: Console | None = None) -> None:
    """Print it."""
    from rich.text import Text

    console = console or standard_output()
    head = f"{found.topology}, {found.workload}: {head_of(found)}"
    console.print(head, markup=False, highlight=False, soft_wrap=True)
    table = plain_table()
    for name in columns_of(found):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    for point in found.curve:
        table.add_row(*map(Text, cells_of(found, point)), style="bold" if point.load == found.limit else "")
    console.print(table)
    for line in (*lines_of(found), *found.notes):
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def head_of(found: Capacity) -> str:
    """What was asked, and how it was found."""
    seeds = ", ".join(map(str, found.seeds))
    return f"p99 within {found.bound_ms:g} ms, {found.figures}, seeds {seeds}"


def columns_of(found: Capacity) -> tuple[str, ...]:
    """What stands above the cells, but for the last one."""
    load = "devices" if found.by == "devices" else "Hz each"
    return load, "due a s", "decided a s", "p50 ms", "p99 ms", "worst seed", "lost", metric_name(found.metric)


def cells_of(found: Capacity, point: LoadPoint) -> Iterator[str]:
    """A load, what it came to, and whether it holds."""
    yield f"{point.load:,.0f}" if found.by == "devices" else f"{point.load:g}"
    yield number(point.offered_hz, 1)
    yield number(point.throughput_hz, 1)
    yield from (ms(each) for each in (point.p50_ms, point.p99_ms, point.p99_most_ms))
    yield f"{sum(each.lost for each in point.runs):,}"
    yield quality(point.quality)
    yield "holds" if point.holds else "does not"


def lines_of(found: Capacity) -> Iterator[str]:
    """What holds, what does not any more, and what to think of that."""
    if found.limit is None:
        tried = found.curve[0]
        yield f"Not even {_load(found, tried.load)} {_verb(found, tried.load)}: {_against(tried)}."
        return
    shared = ""
    if found.sites is not None and found.sites > 1:
        least, more = divmod(int(found.limit), found.sites)
        each = f"{least:,} or {least + 1:,}" if more else f"{least:,}"
        shared = f" ({each} on each of {found.sites} sites)"
    if found.next is None:
        most = ", the most that was tried (see --most)" if found.ended is None else ""
        yield f"{_load(found, found.limit)} {_verb(found, found.limit)}{shared}{most}."
    else:
        beyond = next(point for point in found.curve if point.load == found.next)
        failed = f"{_load(found, found.next)} not: {_against(beyond)}"
        yield f"{_load(found, found.limit)} {_verb(found, found.limit)}{shared}; {failed}."
    if found.ended is not None:
        yield f"The search ended before the limit was known: {found.ended}"
    at = next(point for point in found.curve if point.load == found.limit)
    if not all(run.sure for run in at.runs):
        fewest = min(run.decided for run in at.runs)
        yield f"With {things(fewest, 'sample')} a run the p99 is not known for sure there: lengthen it (--duration-s)."
    odd = [point for point in found.curve if point.holds != (point.load <= found.limit)]
    for point in odd:
        held = "holds" if point.holds else "does not hold"
        yield f"{_load(found, point.load)} {held} all the same: chance goes further than a step (give more seeds)."


def _load(found: Capacity, load: float) -> str:
    return things(int(load), "device") if found.by == "devices" else f"{load:g} Hz"


def _verb(found: Capacity, load: float) -> str:
    return "hold" if found.by == "devices" and load != 1 else "holds"


def _against(point: LoadPoint) -> str:
    return next((why for run in point.runs for why in run.against), "")
