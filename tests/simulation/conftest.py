"""What tests of simulations share: kernels are compiled once, by one of the workers."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgebench.simulation.jit import _folder
from tests.simulation.made import chain, laid_out, times, vectorised


@pytest.fixture(scope="session", autouse=True)
def _compiled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """All workers find in the cache what the first of them compiles, and so do the processes that they start, which
    have another cache for all else."""
    lock: Path = tmp_path_factory.getbasetemp().parent / "compiling"
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        vectorised(laid_out(chain({"kind": "poisson", "rate_hz": 5}, duration_s=1.0), times()))
    with pytest.MonkeyPatch.context() as patch:
        if (folder := _folder()) is not None:
            patch.setenv("NUMBA_CACHE_DIR", str(folder))
        yield
