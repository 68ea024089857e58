"""Containers of this computer as the machines of a run, which join a lab that is served for as long as it lasts."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from edgebench.containers.base import bases
from edgebench.containers.engine import Engine, engine
from edgebench.containers.images import PACKAGES, Image, image_for
from edgebench.containers.plan import ContainerKind, containers_of, in_containers
from edgebench.containers.running import Containers
from edgebench.errors import TopologyError
from edgebench.executors.assigning import runtimes_for, shared_apart, untold_cuts
from edgebench.executors.execution import RunInputs, Tell
from edgebench.executors.fleet import Fleet, FleetOptions, Machines
from edgebench.executors.lab_fleet import LabFleet
from edgebench.fabric.records import Invalidated
from edgebench.fabric.spool import Spool
from edgebench.lab.addresses import Listen
from edgebench.lab.operator import LabClient
from edgebench.lab.places import runs_folder
from edgebench.lab.serving import ServedLab
from edgebench.topology.deployment import Deployment
from edgebench.topology.model import Tier
from edgebench.topology.wording import one_line

_ANYWHERE = Listen("", 0)
"""Containers reach this computer at the gateways of their networks, each at its own; all that listens speaks TLS."""


class ContainerFleet:
    """See `Fleet`."""

    def __init__(self, found: Engine, base_image: str | None) -> None:
        self._engine = found
        self._base_image = base_image
        self._images: dict[ContainerKind, Image] = {}
        self._tell: Tell = lambda _: None

    def place(self, deployment: Deployment, file: str | Path) -> Deployment:
        """See `Fleet`."""
        return placed_in_containers(deployment, file)

    def hold(self, deployment: Deployment, tell: Tell) -> None:
        """Have the images; nothing of a run is there yet."""
        self._tell = tell
        on = bases(self._engine, self._base_image, tell)
        for kind in sorted({plan.kind for plan in containers_of(deployment)}):
            packages = packages_for(deployment, kind)
            self._images[kind] = image_for(kind, packages, self._engine, on, tell)

    @contextlib.contextmanager
    def open(self, inputs: RunInputs, spool: Spool) -> Iterator[Machines]:
        """See `Fleet`. All of it is removed at the end."""
        deployment = inputs.deployment
        plans = containers_of(deployment)
        names = {kind: image.name for kind, image in self._images.items()}
        folder = runs_folder() / deployment.run_id
        with (
            Containers(self._engine, plans, names, deployment.run_id) as containers,
            ServedLab(_ANYWHERE, folder) as served,
            contextlib.closing(served.client()) as client,
        ):
            self._tell(f"starting {len(plans)} containers")
            containers.join(client, served.url.port)
            try:
                with on_containers(client, inputs, spool, self._tell) as machines:
                    yield machines
            finally:
                containers.keep_logs(inputs.run_dir / "logs")
                spool.write(*(Invalidated(reason) for reason in containers.out_of_memory()))


def placed_in_containers(deployment: Deployment, file: str | Path) -> Deployment:
    """With each node's container. file: what messages call the topology. Raises TopologyError."""
    placed = in_containers(deployment)
    problems = (*shared_apart(placed), *untold_cuts(placed))
    found = [one_line(f"{file}: {path}: {problem}") for path, problem in problems]
    if found:
        raise TopologyError(found)
    return placed


@contextlib.contextmanager
def on_containers(client: LabClient, inputs: RunInputs, spool: Spool, tell: Tell) -> Iterator[Machines]:
    """The machines of a run, all of whose containers have joined its lab."""
    lab = LabFleet(client, wait=False)
    lab.place(inputs.deployment, "containers")
    lab.hold(inputs.deployment, tell)
    with lab.open(inputs, spool) as machines:
        yield machines


def packages_for(deployment: Deployment, tier: Tier) -> tuple[str, ...]:
    """What the nodes of a tier need besides the base install."""
    runtimes = {runtime for node in deployment.of_tier(tier) for runtime in runtimes_for(deployment, node)}
    return tuple(sorted({package for runtime in runtimes for package in PACKAGES[runtime]}))


@contextlib.contextmanager
def container_fleet(options: FleetOptions) -> Iterator[Fleet]:
    """See `OpenFleet`."""
    with engine() as found:
        yield ContainerFleet(found, options.base_image)
