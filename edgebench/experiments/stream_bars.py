"""Bars on a terminal while streams run."""

from __future__ import annotations

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from edgebench.clock import NS_PER_S, now_ns
from edgebench.fabric.slices import LiveState
from edgebench.topology.deployment import Deployment


class StreamBars:
    """A bar of time, and one of counts a workload, until `close`."""

    def __init__(self, deployment: Deployment) -> None:
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
        self._doing: TaskID = self._progress.add_task("streaming", total=deployment.duration_s, note="")
        self._of_workload: dict[str, TaskID] = {
            workload: self._progress.add_task(workload, total=1, note="") for workload in deployment.workloads
        }
        self._progress.start()

    def close(self) -> None:
        """Show no more."""
        self._progress.stop()

    def tell(self, what: str) -> None:
        """Say what is being done now."""
        self._progress.update(self._doing, description=what)

    def print(self, line: str) -> None:
        """A line above the bars."""
        self._console.print(line, markup=False, highlight=False, soft_wrap=True)

    def show(self, live: LiveState) -> None:
        """Bring the bars up to date."""
        assert live.start_ns is not None
        streamed_s = min(max(0.0, (now_ns() - live.start_ns) / NS_PER_S), self._deployment.duration_s)
        self._progress.update(self._doing, completed=streamed_s)
        for workload, bar in self._of_workload.items():
            tally = live.totals.get(workload)
            if tally is not None:
                note = f"{tally.decided} of {tally.scheduled} decided  {live.rollouts.get(workload, '')}"
                self._progress.update(bar, total=max(1, tally.scheduled), completed=tally.decided, note=note)
