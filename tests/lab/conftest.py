"""Fixtures of the lab's tests."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgebench.lab.messages import DEVICE_PORT
from tests.lab.labs import Lab


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    """One that is served on loopback by this process."""
    with pytest.MonkeyPatch.context() as patch:
        made = Lab(tmp_path / "server", patch)
        try:
            yield made
        finally:
            made.close()


@pytest.fixture
def device_port(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Iterator[int]:
    """Where devices without Python find their broker, which is one port for all runs of this computer: for one test at
    a time."""
    base = tmp_path_factory.getbasetemp()
    with ((base if worker_id == "master" else base.parent) / "device-port").open("w") as locked:
        fcntl.flock(locked, fcntl.LOCK_EX)
        yield DEVICE_PORT
