"""What a person sees on stderr while a run or a training goes on."""

from __future__ import annotations

import sys
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from edgebench.fabric.slices import LiveState
from edgebench.topology.deployment import Deployment

if TYPE_CHECKING:
    from edgebench.experiments.stream_bars import StreamBars


class Silent:
    """Shows nothing: whoever runs or trains from a program of their own looks at what comes of it."""

    def __enter__(self) -> Silent:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def tell(self, what: str) -> None:
        """Nothing."""

    def show(self, live: LiveState) -> None:
        """Nothing."""

    def note(self, line: str) -> None:
        """Nothing."""


class TrainProgress:
    """One line that says what is being done, and lines that stay."""

    def __init__(self) -> None:
        from rich.console import Console

        self._console = Console(stderr=True, highlight=False)
        self._status = self._console.status("loading")

    def __enter__(self) -> TrainProgress:
        self._status.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._status.stop()

    def tell(self, what: str) -> None:
        """Say what is being done now."""
        self._status.update(what)
        if not self._console.is_terminal:
            self._console.print(what, markup=False, soft_wrap=True)

    def note(self, line: str) -> None:
        """Print a line for good."""
        self._console.print(line, markup=False, soft_wrap=True)


class RunProgress:
    """Lines that say what is being done and, on a terminal while streams run, a bar of time and a line of counts a
    workload."""

    def __init__(self, deployment: Deployment, run_dir: Path) -> None:
        self._deployment = deployment
        self._run_dir = run_dir
        self._bars: StreamBars | None = None
        self._said = ""
        self._noted = 0

    def __enter__(self) -> RunProgress:
        self._print(f"{self._deployment.name} → {self._run_dir}")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bars is not None:
            self._bars.close()

    def tell(self, what: str) -> None:
        """Say what is being done now."""
        if what and what != self._said:
            self._said = what
            if self._bars is not None:
                self._bars.tell(what)
            else:
                self._print(what)

    def show(self, live: LiveState) -> None:
        """Bring the bars up to date, and print what federations have done since the last time."""
        self._print_notes(live)
        if live.phase == "preparing":
            self.tell(live.preparing)
            return
        if live.start_ns is None:
            return
        if self._bars is None and sys.stderr.isatty():
            # Only now: before, everybody waits for the parts of the run, which load their programs on the same cores.
            from edgebench.experiments.stream_bars import StreamBars

            self._bars = StreamBars(self._deployment)
        self.tell("streaming" if live.phase == "running" else "collecting records")
        if self._bars is not None:
            self._bars.show(live)

    def _print_notes(self, live: LiveState) -> None:
        new = min(live.noted - self._noted, len(live.notes))
        if unseen := live.noted - self._noted - new:
            self._print(f"… {unseen} lines more")
        for line in live.notes[len(live.notes) - new :]:
            self._print(line)
        self._noted = live.noted

    def _print(self, line: str) -> None:
        if self._bars is not None:
            self._bars.print(line)
        else:
            print(line, file=sys.stderr, flush=True)
