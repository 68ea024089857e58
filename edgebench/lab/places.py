"""Where a lab's server and a machine keep what they have to keep."""

from __future__ import annotations

import os
from pathlib import Path

import platformdirs

_HOME = "EDGEBENCH_HOME"
"""Instead of the user's data folder: for several machines on one computer."""


HEARD = "heard"
"""The file in a machine's folder whose time says when the lab was heard last, for whoever looks after it."""


def lab_folder() -> Path:
    """The server's: the authority, the members, what is on its way to them."""
    return _home() / "lab"


def machine_folder() -> Path:
    """A machine's: its key, its certificate, and which lab it is in."""
    return _home() / "machine"


def sensors_file() -> Path:
    """What nodes of runs read on this machine."""
    return machine_folder() / "sensors.json"


def runs_folder() -> Path:
    """Of the labs that are there for one run each, by its id."""
    return _home() / "containers"


def home_variable() -> dict[str, str]:
    """What a service has to have in its environment to find the same folders."""
    return {_HOME: os.environ[_HOME]} if os.environ.get(_HOME) else {}


def _home() -> Path:
    named = os.environ.get(_HOME)
    return Path(named).absolute() if named else platformdirs.user_data_path("edgebench")
