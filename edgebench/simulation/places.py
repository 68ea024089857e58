"""Devices as results name them: each by itself or, where there are too many, one for all of its group at an edge."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import msgspec
import numpy as np

from edgebench.simulation.columns import Ints
from edgebench.simulation.fleet import Fleet, Group
from edgebench.topology import link_traces_of, profiles_of, resolve
from edgebench.topology.deployment import SIMULATE, Deployment
from edgebench.topology.model import Topology

MOST_NAMED = 10_000
"""So many devices are told one by one."""


@dataclass(frozen=True)
class Places:
    """The first devices of a group, one for each edge of its parents, stand for all others there: `bed-2` for each bed
    of `ward-2`. Unless all are told, when each stands for itself."""

    fleet: Fleet
    all_told: bool

    def told(self, group: Group) -> int:
        """How many devices of a group stand for others, or themselves."""
        return group.count if self.all_told else min(group.count, self.fleet.parent(group).count)

    @cached_property
    def names(self) -> list[str]:
        """Of the devices that are told, in order."""
        return [group.node(index) for group in self.fleet.of_tier("device") for index in range(self.told(group))]

    @cached_property
    def of_device(self) -> Ints:
        """Which of `names` stands for each device [device]."""
        parts, first = [], 0
        for group in self.fleet.of_tier("device"):
            parts.append(first + np.arange(group.count) % self.told(group))
            first += self.told(group)
        return np.concatenate(parts) if parts else np.zeros(0, np.int64)

    def deployment(
        self, topology: Topology, run_id: str, data: str | Path | None = None, *, folder: Path = Path()
    ) -> Deployment:
        """The deployment of a checked topology, with the devices that are told and how many each stands for.

        folder: where the files of profiles and traces are that are not named as a whole.
        """
        profiles, traces = profiles_of(topology, folder), link_traces_of(topology, folder)
        if self.all_told:
            return resolve(topology, run_id=run_id, executor=SIMULATE, data=data, profiles=profiles, traces=traces)
        devices = self.fleet.of_tier("device")
        told = {
            group.name: msgspec.structs.replace(topology.nodes[group.name], count=self.told(group))
            for group in devices
            if group.numbered
        }
        fewer = msgspec.structs.replace(topology, nodes={**topology.nodes, **told})
        found = resolve(fewer, run_id=run_id, executor=SIMULATE, data=data, profiles=profiles, traces=traces)
        stands_for = dict(zip(self.names, np.bincount(self.of_device).tolist(), strict=True))
        nodes = {
            name: msgspec.structs.replace(node, count=stands_for.get(name, 1)) for name, node in found.nodes.items()
        }
        return msgspec.structs.replace(found, nodes=nodes)


def places_of(fleet: Fleet) -> Places:
    """Of a fleet of any size."""
    return Places(fleet, fleet.count("device") <= MOST_NAMED)
