"""Child processes with a name, a log file and a lifeline: when their standard input ends, nobody needs them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from edgebench.clock import now_ns, now_s, sleep_s
from edgebench.executors.plan import Part
from edgebench.fabric.records import Death

_POLL_S = 0.02
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
    """Ask all to stop (SIGTERM), wait, and kill what is left."""
    for part in parts:
        if part.process.poll() is None:
            part.process.terminate()
    until_s = now_s() + patience_s
    for part in parts:
        while part.process.poll() is None and now_s() < until_s:
            sleep_s(_POLL_S)
        if part.process.poll() is None:
            part.process.kill()
        part.process.wait()
        if part.process.stdin is not None:
            part.process.stdin.close()
