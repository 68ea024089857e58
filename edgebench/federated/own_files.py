"""Where a Flower app of the user's own stands, so that what it writes beside itself is the run's.

In the folder where the command was given it would lie among the user's files, and the next run would write over it.
"""

from __future__ import annotations

import os
from pathlib import Path

FILES = "files"
"""Of a run: a folder a process. Of what a process that learns works in: what becomes that."""


def stand_in(folder: Path) -> None:
    """Make it the working directory of this process."""
    folder.mkdir(parents=True, exist_ok=True)
    os.chdir(folder)
