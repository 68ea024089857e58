"""Tables for a terminal, which all look alike."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.table import Table


def plain_table(title: str | None = None) -> Table:
    """One without columns and rows, which are set apart by space alone."""
    from rich.table import Table

    return Table(box=None, pad_edge=False, padding=(0, 1), header_style="dim", title=title, title_justify="left")
