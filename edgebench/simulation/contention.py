"""Nodes whose profiles have fewer cores than they have threads, so that these contend for them (see `core.station`)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from edgebench.simulation.chains import share_of
from edgebench.simulation.costs import Flow
from edgebench.simulation.fleet import Fleet
from edgebench.simulation.places import places_of
from edgebench.simulation.service_times import ServiceTimes
from edgebench.topology import profiles_of
from edgebench.topology.deployment import Deployment
from edgebench.topology.model import Topology
from edgebench.topology.profiles import HOST, Profile


@dataclass(frozen=True)
class Contended:
    """A group of such nodes. shares: by workload with a chain, of the time of the whole of the model that is there,
    what the part takes that is."""

    profile: Profile
    shares: Mapping[int, float]


def contended_nodes(deployment: Deployment) -> list[str]:
    """Which they are. A node has a thread for each model and, where messages pass, one for these, and an edge and the
    cloud one for their broker."""
    models, passed = Counter[str](), set[str]()
    for plan in deployment.workloads.values():
        deciding = {*plan.deciders.values(), *([deployment.cloud] if plan.goes_on else [])}
        models.update(deciding)
        travelling = {device for device, decider in plan.deciders.items() if device != decider}
        passed |= travelling | (deciding - plan.deciders.keys())
        passed.update(site for device in travelling for site in deployment.nodes[device].sites)
    return [
        node.name
        for node in deployment.nodes.values()
        if node.profile != HOST
        and deployment.profiles[node.profile].cores
        < models[node.name] + (node.name in passed) * (1 if node.tier == "device" else 2)
    ]


def contended_groups(
    topology: Topology, fleet: Fleet, flows: Sequence[Flow], times: ServiceTimes
) -> dict[str, Contended]:
    """The groups that any of them is of, by name; threads of the others find a core whenever they ask."""
    profiles = {profile.name: profile for profile in profiles_of(topology).values()}
    if not profiles:
        return {}
    deployment = places_of(fleet).deployment(topology, "simulate", topology.data)
    names = {deployment.nodes[node].group for node in contended_nodes(deployment)}
    found = {}
    for group in fleet.groups.values():
        if group.name in names:
            of_chains = [flow for flow in flows if flow.plan.is_chain and group.tier != "device"]
            shares = {
                flow.number: share
                for flow in of_chains
                if (share := share_of(flow.model_at(group), flow.plan, flow.cut, times)) is not None
            }
            found[group.name] = Contended(profiles[group.profile], shares)
    return found
