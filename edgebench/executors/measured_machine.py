"""A machine of a lab that is being measured: `edgebench profile` as a process, with models that the lab has sent."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from edgebench.errors import EdgebenchError, FabricError
from edgebench.executors.orders import Failed, HandedIn, KeepPiece, MeasureMachine, Report, Said
from edgebench.fabric.child_process import ChildProcess, describe_end

PROFILE = "profile.json"
"""What it hands in."""


class MeasuredMachine:
    """This one. `obey` is called in a thread that lasts, `look` in any one thread."""

    def __init__(self, folder: Path, tell: Callable[[Report], None], hand_in: Callable[[str, Path], None]) -> None:
        """folder: to work in. hand_in: a file, by name. Raises EdgebenchError, or OSError."""
        self._models = folder / "models"
        self._profile = folder / PROFILE
        self._log = folder / "profile.log"
        self._tell = tell
        self._hand_in = hand_in
        self._process: ChildProcess | None = None
        self._read_bytes = 0
        self._last_line = ""

    def obey(self, order: KeepPiece | MeasureMachine) -> None:
        """Do it, and tell what comes of it."""
        try:
            if isinstance(order, KeepPiece):
                self._keep(order)
            else:
                self._begin(order)
        except (EdgebenchError, OSError) as error:
            self._tell(Failed(str(error)))

    def look(self) -> None:
        """Pass on what the process has said; once it has ended, what it found."""
        if self._process is None:
            return
        ended = self._process.has_ended
        for line in self._said():
            self._tell(Said(line))
            self._last_line = line
        if not ended:
            return
        status, self._process = self._process.end(), None
        if status:
            self._tell(Failed(self._last_line or f"it ended ({describe_end(status)})"))
            return
        try:
            self._hand_in(PROFILE, self._profile)
        except (EdgebenchError, OSError) as error:
            self._tell(Failed(f"cannot hand in its profile: {error}"))
        else:
            self._tell(HandedIn(PROFILE))

    def close(self) -> None:
        """It is called off, if it goes on."""
        if self._process is not None:
            self._process.end()

    def _keep(self, order: KeepPiece) -> None:
        path = (self._models / order.name).resolve()
        if not path.is_relative_to(self._models.resolve()):
            raise FabricError(f"{order.name!r}: no name of a file to be kept")
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab") as file:
            file.write(order.piece)

    def _begin(self, order: MeasureMachine) -> None:
        words = [*order.words, "--models", str(self._models), "--out", str(self._profile)]
        with self._log.open("wb") as log:
            self._process = ChildProcess(
                [sys.executable, "-m", "edgebench.cli", "profile", *words],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=log,
            )

    def _said(self) -> Iterator[str]:
        """The lines that are whole."""
        with self._log.open("rb") as log:
            log.seek(self._read_bytes)
            for line in log:
                if line.endswith(b"\n"):
                    self._read_bytes += len(line)
                    yield line.decode(errors="replace").rstrip()
