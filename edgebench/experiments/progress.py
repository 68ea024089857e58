"""What a person sees on stderr while a run or a training goes on."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from edgebench.clock import NS_PER_S, now_ns
from edgebench.fabric.slices import LiveState
from edgebench.topology.deployment import Deployment


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
    """A line that says what is being done, then a bar of time and a line of counts a workload."""

    def __init__(self, deployment: Deployment, run_dir: Path) -> None:
        self._deployment = deployment
        self._console = Console(stderr=True)
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[note]}"),
            TimeElapsedColumn(),
            console=self._console,
            transient=True,
        )
        self._run_dir = run_dir
        self._doing: TaskID = self._progress.add_task("preparing", total=None, note="")
        self._bars: dict[str, TaskID] = {}
        self._said = ""

    def __enter__(self) -> RunProgress:
        self._console.print(f"[bold]{self._deployment.name}[/bold] → {self._run_dir}")
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def tell(self, what: str) -> None:
        """Say what is being done now."""
        if what and what != self._said:
            self._said = what
            self._progress.update(self._doing, description=what)
            if not self._console.is_terminal or not self._progress.live.is_started:
                self._console.print(what, markup=False)

    def show(self, live: LiveState) -> None:
        """Bring the bars up to date."""
        if live.phase == "preparing":
            self.tell(live.preparing)
            return
        if live.start_ns is None:
            return
        self.tell("streaming" if live.phase == "running" else "collecting records")
        streamed_s = min(max(0.0, (now_ns() - live.start_ns) / NS_PER_S), self._deployment.duration_s)
        self._progress.update(self._doing, total=self._deployment.duration_s, completed=streamed_s)
        for workload in self._deployment.workloads:
            if workload not in self._bars:
                self._bars[workload] = self._progress.add_task(workload, total=1, note="")
            tally = live.totals.get(workload)
            if tally is not None:
                note = f"{tally.decided} of {tally.scheduled} decided  {live.rollouts.get(workload, '')}"
                self._progress.update(
                    self._bars[workload], total=max(1, tally.scheduled), completed=tally.decided, note=note
                )
