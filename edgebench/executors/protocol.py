"""What runs a plan: an executor starts it; the execution is watched, injected into and stopped."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import psutil

from edgebench.executors.faults import Injection
from edgebench.executors.plan import RunPlan
from edgebench.fabric.records import Spool
from edgebench.fabric.slices import LiveState
from edgebench.topology.deployment import Deployment

Tell = Callable[[str], None]


@dataclass(frozen=True)
class RunInputs:
    """What a run needs besides its plan.

    broker_url: an external broker, login included. traces, retrain: see CloudSpec.
    """

    deployment: Deployment
    run_dir: Path
    registry_dir: Path
    data: Path | None
    broker_url: str | None
    traces: dict[str, list[float]]
    retrain: bool = False


class Execution(Protocol):
    """A run that goes on."""

    def watch(self, on_live: Callable[[LiveState], None], on_streaming: Callable[[int], None]) -> None:
        """Return when the run is over, or a part has died that the others cannot do without.

        on_live: called twice a second. on_streaming: called several times a second with the start of the streams in
        ns, once that is known.
        """

    def inject(self, injection: Injection) -> None:
        """Bring a fault about, now. Raises FabricError where it cannot be."""

    def stop(self) -> None:
        """End every part that has not ended, which keeps what it recorded. To be called however the run went."""

    @property
    def processes(self) -> list[psutil.Process]:
        """The processes of the run that live on this machine, for whoever must clean up should this one be killed."""


class Executor(Protocol):
    """One way to run a plan."""

    def start(self, plan: RunPlan, inputs: RunInputs, spool: Spool, tell: Tell) -> Execution:
        """Start every part; what the executor itself observes is written to `spool` as it happens.

        Raises EdgebenchError where a part does not come up; then nothing is left running.
        """
