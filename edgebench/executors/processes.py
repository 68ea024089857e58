"""Child processes with a name, a log file and a lifeline: when their standard input ends, nobody needs them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from edgebench.clock import now_ns
from edgebench.executors.orders import Ended
from edgebench.executors.plan import Part
from edgebench.fabric.child_process import ChildProcess
from edgebench.fabric.sensors import SENSORS_VARIABLE
from edgebench.fabric.tls import TRUST_VARIABLE, Trust

_LAST_WORDS_BYTES = 4096
_STOP_PATIENCE_S = 15.0


class PartProcess:
    """A part of a run, as a process of this machine."""

    def __init__(self, part: Part, process: ChildProcess, log: Path, incarnation: int = 0) -> None:
        self.part = part
        self.incarnation = incarnation
        self.process = process
        self.log = log

    def ended(self) -> Ended | None:
        """How it has ended, if it has."""
        status = self.process.status
        return None if status is None else Ended(self.part.name, status, now_ns(), self._last_words(), self.incarnation)

    def _last_words(self) -> str:
        """The last line of its log."""
        if not self.log.exists():
            return ""
        with self.log.open("rb") as file:
            file.seek(max(0, self.log.stat().st_size - _LAST_WORDS_BYTES))
            lines = file.read().decode(errors="replace").strip().splitlines()
        return lines[-1] if lines else ""


def start_part(
    part: Part,
    module: str,
    arguments: list[str],
    *,
    log: Path,
    token: str,
    trust: Trust | None,
    sensors: Path | None = None,
    pass_fds: tuple[int, ...] = (),
    incarnation: int = 0,
) -> PartProcess:
    """Start a Python program of ours, which ends in good order when its standard input does. sensors: the file of this
    machine's. incarnation: how often it was started before."""
    told = (TRUST_VARIABLE, SENSORS_VARIABLE)
    environment = {name: value for name, value in os.environ.items() if name not in told}
    if sensors is not None:
        environment[SENSORS_VARIABLE] = str(sensors)
    if trust is not None:
        environment[TRUST_VARIABLE] = str(trust.folder)
    with log.open("ab") as output:
        process = ChildProcess(
            [sys.executable, "-m", module, *arguments],
            lifeline=True,
            patience_s=_STOP_PATIENCE_S,
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=output,
            env={**environment, "EDGEBENCH_TOKEN": token},
            pass_fds=pass_fds,
        )
    return PartProcess(part, process, log, incarnation)
