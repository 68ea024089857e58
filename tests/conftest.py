"""Fixtures that tests of several packages share."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of public research data, which is not part of the project: $EDGEBENCH_DATA or beside the project."""
    path = Path(os.environ.get("EDGEBENCH_DATA") or ROOT.parent / "shared" / "data")
    if not path.is_dir():
        pytest.skip(f"no real data at {path}; set EDGEBENCH_DATA to a folder that has it")
    return path


@pytest.fixture(scope="session")
def mosquitto() -> Path:
    """The Mosquitto broker; CI must have it."""
    found = shutil.which("mosquitto", path=os.environ.get("PATH", "") + os.pathsep + "/usr/sbin")
    if found is None:
        reason = "no mosquitto in PATH; install the package of that name"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    return Path(found)
