"""Waits beside `edgebench run`; should that be killed, ends what is left of the run and writes its verdict.

python -m edgebench.experiments.reaper RUN_DIR      with a pipe from the command as standard input
"""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from edgebench.clock import now_s, sleep_s

if TYPE_CHECKING:
    import psutil

_log = logging.getLogger(__name__)
_PATIENCE_S = 15.0
_POLL_S = 0.1


def main(argv: list[str]) -> int:
    """Exit status 0 when there was nothing to do, or it is done."""
    run_dir = Path(argv[0])
    # It outlives the command's terminal and its signals by design.
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    if sys.stdin.buffer.read():
        return 0
    logging.basicConfig(filename=run_dir / "logs" / "reaper.log", level=logging.INFO)
    try:
        close_run(run_dir)
    except Exception:
        _log.exception("the run could not be closed")
        raise
    return 0


def close_run(run_dir: Path) -> None:
    """End the processes of a run whose command is gone, and write its records, result and report."""
    from edgebench.errors import EdgebenchError
    from edgebench.executors.disks import left_in, unmount
    from edgebench.experiments.finishing import finish_held, held
    from edgebench.report.page import write_report
    from edgebench.results.collect import WORK
    from edgebench.results.rundir import OBSERVATIONS

    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(held(run_dir))  # before another collects what its nodes still write
            is_ours = True
        except EdgebenchError as error:
            _log.warning("%s", error)
            is_ours = False
        _end_processes(run_dir)
        for disk in left_in(run_dir / WORK):
            unmount(disk)
        _remove_containers(run_dir)
        for log in (run_dir / WORK).glob("broker-*/*.log"):
            shutil.copy(log, run_dir / "logs" / log.name)
        if is_ours:
            finish_held(run_dir, "the command edgebench itself was killed")
    if (run_dir / OBSERVATIONS).exists():
        write_report(run_dir)


def _end_processes(run_dir: Path) -> None:
    """The nodes stop by themselves when the command is gone; whatever has not within the time is killed."""
    import psutil  # while all goes well it only waits, beside a run that starts

    from edgebench.executors.here import PROCESSES
    from edgebench.fabric.child_process import birth_of
    from edgebench.results.collect import WORK

    listed = run_dir / WORK / PROCESSES
    processes = []
    for line in listed.read_text("utf-8").splitlines() if listed.exists() else []:
        pid, born = line.split()
        if birth_of(int(pid)) == born:  # else another has the number by now
            with contextlib.suppress(psutil.NoSuchProcess):
                processes.append(psutil.Process(int(pid)))
    until_s = now_s() + _PATIENCE_S
    while any(map(_lives, processes)) and now_s() < until_s:
        sleep_s(_POLL_S)
    for process in processes:
        if _lives(process):
            _log.warning("killing %d, which did not stop", process.pid)
            os.killpg(process.pid, signal.SIGKILL)  # each leads a session of its own


def _remove_containers(run_dir: Path) -> None:
    from edgebench.results.rundir import load_deployment

    if load_deployment(run_dir).executor == "containers":
        from edgebench.containers.cleaning import remove_run
        from edgebench.containers.engine import EngineError, engine

        try:
            with engine() as found:
                remove_run(found, run_dir.name)
        except EngineError:
            _log.exception("the run's containers could not be removed (edgebench clean does so)")


def _lives(process: psutil.Process) -> bool:
    import psutil

    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
