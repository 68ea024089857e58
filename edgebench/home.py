"""The user's data folder, where all is kept that has to last."""

from __future__ import annotations

import os
from pathlib import Path

import platformdirs

VARIABLE = "EDGEBENCH_HOME"
"""Names another folder, for several machines on one computer."""


def home() -> Path:
    """Absolute; it need not be there yet."""
    named = os.environ.get(VARIABLE)
    return Path(named).absolute() if named else platformdirs.user_data_path("edgebench")


def expanded(given: str | Path) -> Path:
    """A user's path, in which `~` or `~NAME` at its beginning is the folder of a user.

    As it is where there is no such user, as a shell has it: whoever opens it says which file is not there.
    """
    path = Path(given)
    try:
        return path.expanduser()
    except (RuntimeError, ValueError):  # ValueError: such a name cannot be
        return path
