"""Tables for a terminal, which all look alike."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

_WIDE = 200
"""Characters."""


def standard_output() -> Console:
    """Where tables go: as wide as the terminal is, or, into a file, as wide as they are, up to 200
    characters, or what COLUMNS says."""
    from rich.console import Console

    return Console(width=None if sys.stdout.isatty() or "COLUMNS" in os.environ else _WIDE)


def plain_table(title: str | None = None) -> Table:
    """One without columns and rows, which are set apart by space alone."""
    from rich.table import Table

    return Table(box=None, pad_edge=False, padding=(0, 1), header_style="dim", title=title, title_justify="left")
