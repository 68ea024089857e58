"""Nodes that have fewer cores than threads, so that these wait for one another (see `core.station`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgebench.errors import TopologyError
from edgebench.simulation.chains import share_of
from edgebench.simulation.columns import AT_CLOUD, AT_EDGE, CASCADE, CHAIN, ON_DEVICE
from edgebench.simulation.costs import Flow
from edgebench.simulation.fleet import Fleet, Group
from edgebench.simulation.service_times import ServiceTimes
from edgebench.topology import profiles_of
from edgebench.topology.model import Topology
from edgebench.topology.profiles import Profile
from edgebench.topology.wording import one_line

_DECIDED = {"device": (ON_DEVICE,), "edge": (AT_EDGE, CASCADE, CHAIN), "cloud": (AT_CLOUD, CASCADE, CHAIN)}
"""Of samples that a node of a tier decides, or has a part in that, where they are decided."""
_TRAVELLING = AT_EDGE, AT_CLOUD, CASCADE, CHAIN
_PASSED = {"device": _TRAVELLING, "edge": _TRAVELLING, "cloud": _DECIDED["cloud"]}
"""Of samples that come by as messages."""


@dataclass(frozen=True)
class Crowded:
    """A group of such nodes. shares: by workload, of the time of its whole model, what the part takes that is there."""

    profile: Profile
    shares: Mapping[int, float]


def crowded_of(
    topology: Topology, fleet: Fleet, flows: Sequence[Flow], times: ServiceTimes, file: str | Path
) -> dict[str, Crowded]:
    """Such groups by name. Raises TopologyError where what they do is not known."""
    profiles = {profile.name: profile for profile in profiles_of(topology).values()}
    found = {}
    for group in fleet.groups.values():
        profile = profiles.get(group.profile)
        if profile is not None and profile.cores < _threads(group, fleet, flows):
            shares = {
                flow.number: share_of(flow.model_at(group), flow.plan, flow.cut, times) or 1.0
                for flow in flows
                if flow.plan.is_chain and _any(_DECIDED[group.tier], group, fleet, flow)
            }
            found[group.name] = Crowded(profile, shares)
    if found and topology.durability != "none":
        why = f"{topology.durability}, and no profile tells what keeping samples takes of the cores of"
        raise TopologyError([one_line(f"{file}: $.durability: {why} {name} (edgebench run it)") for name in found])
    return found


def _threads(group: Group, fleet: Fleet, flows: Sequence[Flow]) -> int:
    """One for each model; where messages pass, one for these, and one for a broker of its own."""
    models = sum(_any(_DECIDED[group.tier], group, fleet, flow) for flow in flows)
    passed = any(_any(_PASSED[group.tier], group, fleet, flow) for flow in flows)
    return models + passed * (1 if group.tier == "device" else 2)


def _any(where: Sequence[int], group: Group, fleet: Fleet, flow: Flow) -> bool:
    """Whether any samples of the devices that are the group, or below it, are decided at one of these places."""
    for source in flow.plan.sources:
        devices = fleet.groups[source]
        if group.tier == "cloud" or group.name in (source, devices.parent):
            within = (flow.devices >= devices.first) & (flow.devices < devices.first + devices.count)
            if np.isin(flow.where[within], where).any():
                return True
    return False
