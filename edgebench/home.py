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
