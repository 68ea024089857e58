"""The brokers of a run on this machine, or the one of the user's own."""

from __future__ import annotations

import shutil
from pathlib import Path

from edgebench.executors.plan import Part
from edgebench.executors.processes import PartProcess
from edgebench.executors.wiring import broker_address
from edgebench.fabric.broker import EmbeddedBroker
from edgebench.topology.deployment import Deployment


class Brokers:
    """Embedded ones are launched as the plan says."""

    def __init__(self, work_dir: Path, log_dir: Path) -> None:
        self._work_dir = work_dir
        self._log_dir = log_dir
        self._embedded: dict[str, EmbeddedBroker] = {}

    def launch(self, part: Part) -> PartProcess:
        """Start the broker of a site, without waiting for it."""
        (address,) = part.offers
        name = f"broker-{address.rpartition(':')[2]}"
        broker = self._embedded[address] = EmbeddedBroker(name, self._work_dir / name)
        broker.launch()
        return PartProcess(part, broker.process, broker.log)

    def until_up(self, part: Part) -> None:
        """Wait until it takes connections. Raises FabricError with its last words."""
        (address,) = part.offers
        self._embedded[address].until_up()

    def urls(self, deployment: Deployment, external: str | None) -> dict[str, str]:
        """Edge or cloud -> the URL of its broker. external: of one that serves all."""
        sites = [node.name for node in deployment.nodes.values() if node.tier != "device"]
        if external is not None:
            return dict.fromkeys(sites, external)
        return {site: self._embedded[broker_address(site)].url for site in sites}

    def stop(self) -> None:
        """End them, and keep their logs."""
        for broker in self._embedded.values():
            broker.stop()
            if broker.log.exists():
                shutil.copy(broker.log, self._log_dir / broker.log.name)
