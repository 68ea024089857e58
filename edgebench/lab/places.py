"""Where a lab's server and a machine keep what they have to keep."""

from __future__ import annotations

import os
from pathlib import Path

from edgebench.home import VARIABLE, home

HEARD = "heard"
"""The file in a machine's folder whose time says when the lab was heard last, for whoever looks after it."""


def lab_folder() -> Path:
    """The server's: the authority, the members, what is on its way to them."""
    return home() / "lab"


def machine_folder() -> Path:
    """A machine's: its key, its certificate, and which lab it is in."""
    return home() / "machine"


def sensors_file() -> Path:
    """What nodes of runs read on this machine."""
    return machine_folder() / "sensors.json"


def runs_folder() -> Path:
    """Of the labs that are there for one run each, by its id."""
    return home() / "containers"


def home_variable() -> dict[str, str]:
    """What a service has to have in its environment to find the same folders."""
    return {VARIABLE: os.environ[VARIABLE]} if os.environ.get(VARIABLE) else {}
