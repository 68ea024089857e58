"""A run directory belongs to one process at a time, and what its command could not finish another can."""

from __future__ import annotations

import contextlib
import fcntl
from collections.abc import Iterator
from pathlib import Path

from edgebench.errors import EdgebenchError
from edgebench.fabric.records import Invalidated
from edgebench.fabric.spool import Spool
from edgebench.results.collect import COMMAND_SPOOL, collect
from edgebench.results.rundir import OBSERVATIONS


@contextlib.contextmanager
def held(run_dir: Path) -> Iterator[None]:
    """Nobody else records into it, or collects what was recorded, meanwhile. Raises EdgebenchError where one does."""
    with contextlib.ExitStack() as stack:
        try:
            file = stack.enter_context((run_dir / COMMAND_SPOOL).open("r+b"))
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise EdgebenchError(f"{run_dir}: the run goes on (wait for its end)") from None
        except FileNotFoundError:
            raise EdgebenchError(f"{run_dir}: what was recorded is collected already (try again)") from None
        yield


def finish(run_dir: Path, why: str) -> None:
    """Collect what a run has recorded, unless that is done. why: it was not. Raises EdgebenchError where it goes on."""
    if (run_dir / OBSERVATIONS).exists() or not (run_dir / COMMAND_SPOOL).exists():
        return
    with held(run_dir):
        finish_held(run_dir, why)


def finish_held(run_dir: Path, why: str) -> None:
    """As `finish`, of a run that is held."""
    if (run_dir / OBSERVATIONS).exists():
        return  # by another, who has held it until now
    spool = Spool(run_dir / COMMAND_SPOOL)
    spool.write(Invalidated(why))
    spool.close()
    collect(run_dir)
