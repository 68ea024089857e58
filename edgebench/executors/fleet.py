"""What an executor has: the machines on which its runs take place."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple, Protocol

from edgebench.executors.execution import RunInputs, Tell
from edgebench.executors.here import ThisMachine
from edgebench.executors.machine import Machine
from edgebench.executors.wiring import Loopback, Network
from edgebench.fabric.spool import Spool
from edgebench.topology.deployment import HERE, Deployment


class Machines(NamedTuple):
    """Those of a run, by name, and what is between them."""

    machines: Mapping[str, Machine]
    network: Network


class Fleet(Protocol):
    """Machines for one run."""

    def place(self, deployment: Deployment, file: str | Path) -> Deployment:
        """The deployment with each node's machine. file: what messages call the topology.

        Raises EdgebenchError, before anything has started, where a machine is not there, or cannot be what it should.
        """

    def hold(self, deployment: Deployment, tell: Tell) -> None:
        """Have the machines of a placed deployment for this run alone. Raises EdgebenchError where another has them."""

    def open(self, inputs: RunInputs, spool: Spool) -> contextlib.AbstractContextManager[Machines]:
        """The machines of a run, which it holds."""


class OnlyHere:
    """This machine alone."""

    def place(self, deployment: Deployment, file: str | Path) -> Deployment:
        """See `Fleet`; there is nothing to choose."""
        return deployment

    def hold(self, deployment: Deployment, tell: Tell) -> None:
        """See `Fleet`; runs share this machine as they like."""

    @contextlib.contextmanager
    def open(self, inputs: RunInputs, spool: Spool) -> Iterator[Machines]:
        """See `Fleet`."""
        yield Machines(
            {HERE: ThisMachine(inputs.run_dir, spool.write, sensors=inputs.sensors, meter=inputs.meter)}, Loopback()
        )


class FleetOptions(NamedTuple):
    """wait: for machines that serve another run, instead of refusing. base_image: what containers are made on.
    tokens: where those of containers are laid that others start; None: they are made here."""

    wait: bool = False
    base_image: str | None = None
    tokens: Path | None = None


@contextlib.contextmanager
def only_here(_options: FleetOptions) -> Iterator[Fleet]:
    """See `OpenFleet`."""
    yield OnlyHere()


OpenFleet = Callable[[FleetOptions], contextlib.AbstractContextManager[Fleet]]
"""What gives an executor's machines. Raises EdgebenchError where it cannot."""
