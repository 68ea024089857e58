"""What tests of simulations share: kernels are compiled once, by one of the workers."""

from __future__ import annotations

import fcntl
from pathlib import Path

import pytest

from tests.simulation.made import chain, laid_out, times, vectorised


@pytest.fixture(scope="session", autouse=True)
def _compiled(tmp_path_factory: pytest.TempPathFactory) -> None:
    """All workers find in the cache what the first of them compiles."""
    lock: Path = tmp_path_factory.getbasetemp().parent / "compiling"
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        vectorised(laid_out(chain({"kind": "poisson", "rate_hz": 5}, duration_s=1.0), times()))
