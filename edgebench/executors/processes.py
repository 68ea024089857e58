"""Child processes with a name, a log file and a lifeline: when their standard input ends, nobody needs them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

from edgebench.clock import now_ns, now_s, sleep_s
from edgebench.fabric.records import Death

_POLL_S = 0.02
_LAST_WORDS_BYTES = 4096


class Part:
    """One process of a run. nodes: those that it hosts, empty for a broker or a relay."""

    def __init__(
        self, name: str, process: subprocess.Popen[bytes], *, nodes: Iterable[str] = (), log: Path | None = None
    ) -> None:
        self.name = name
        self.nodes = list(nodes)
        self.process = process
        self.log = log

    def death(self) -> Death | None:
        """How it died, if it did. Nodes end by themselves when all is done; a broker or a relay never does."""
        status = self.process.poll()
        if status is None or (status == 0 and self.nodes):
            return None
        return Death(self.name, status, now_ns(), self.last_words())

    def last_words(self) -> str:
        """The last line of its log."""
        if self.log is None or not self.log.exists():
            return ""
        with self.log.open("rb") as file:
            file.seek(max(0, self.log.stat().st_size - _LAST_WORDS_BYTES))
            lines = file.read().decode(errors="replace").strip().splitlines()
        return lines[-1] if lines else ""


def start_part(
    name: str,
    module: str,
    arguments: list[str],
    *,
    log: Path,
    token: str,
    nodes: Iterable[str] = (),
    pass_fds: tuple[int, ...] = (),
) -> Part:
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
    return Part(name, process, nodes=nodes, log=log)


def stop_all(parts: list[Part], *, patience_s: float) -> None:
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
