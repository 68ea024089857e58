"""Child processes with a name, a log file and a lifeline: when their standard input ends, nobody needs them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from edgebench.clock import now_ns
from edgebench.executors.plan import Part
from edgebench.fabric.child_process import end_all
from edgebench.fabric.records import Death

_LAST_WORDS_BYTES = 4096


class PartProcess:
    """A part of a run, as a process of this machine."""

    def __init__(self, part: Part, process: subprocess.Popen[bytes], log: Path) -> None:
        self.part = part
        self.process = process
        self.log = log

    def death(self) -> Death | None:
        """How it died, if it did. Nodes end by themselves when all is done; a broker or a relay never does."""
        status = self.process.poll()
        if status is None or (status == 0 and self.part.nodes):
            return None
        return Death(self.part.name, status, now_ns(), self.last_words(), self.part.nodes)

    def last_words(self) -> str:
        """The last line of its log."""
        if not self.log.exists():
            return ""
        with self.log.open("rb") as file:
            file.seek(max(0, self.log.stat().st_size - _LAST_WORDS_BYTES))
            lines = file.read().decode(errors="replace").strip().splitlines()
        return lines[-1] if lines else ""


def start_part(
    part: Part, module: str, arguments: list[str], *, log: Path, token: str, pass_fds: tuple[int, ...] = ()
) -> PartProcess:
    """Start a Python program of ours in a session of its own, so that Ctrl-C reaches it only through us."""
    with log.open("ab") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=output,
            env={**os.environ, "EDGEBENCH_TOKEN": token},
            start_new_session=True,
            pass_fds=pass_fds,
        )
    return PartProcess(part, process, log)


def stop_all(parts: Sequence[PartProcess], *, patience_s: float) -> None:
    """Ask all to stop (SIGTERM), wait, and kill what is left of their process groups."""
    end_all([part.process for part in parts], patience_s)
