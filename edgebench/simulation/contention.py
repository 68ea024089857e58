"""Nodes whose profiles have fewer cores than they have threads, so that these contend for them (see `core.station`)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from edgebench.errors import TopologyError
from edgebench.simulation.chains import share_of
from edgebench.simulation.costs import Flow
from edgebench.simulation.fleet import Fleet
from edgebench.simulation.places import places_of
from edgebench.simulation.service_times import ServiceTimes
from edgebench.topology import profiles_of
from edgebench.topology.deployment import Deployment
from edgebench.topology.model import Topology
from edgebench.topology.profiles import HOST, Profile
from edgebench.topology.wording import one_line

_BESIDES_MODELS = 2
"""Threads that a node has at most."""


@dataclass(frozen=True)
class Contended:
    """A group of such nodes. shares: by workload with a chain, of the time of the whole of the model that is there,
    what the part takes that is."""

    profile: Profile
    shares: Mapping[int, float]


def contended_nodes(deployment: Deployment) -> list[str]:
    """Which they are. A node has a thread for each model and, where messages pass, one for these, an edge and the cloud
    one for their broker, and a device that learns one for that."""
    models, passed = Counter[str](), set[str]()
    for plan in deployment.workloads.values():
        deciding = {*plan.deciders.values(), *([deployment.cloud] if plan.goes_on else [])}
        models.update(deciding)
        travelling = {device for device, decider in plan.deciders.items() if device != decider}
        passed |= travelling | (deciding - plan.deciders.keys())
        passed.update(site for device in travelling for site in deployment.nodes[device].sites)
    learning = {client for plan in deployment.federated.values() for client in plan.clients}
    return [
        node.name
        for node in deployment.nodes.values()
        if node.profile != HOST
        and deployment.profiles[node.profile].cores
        < models[node.name]
        + (node.name in passed) * (1 if node.tier == "device" else _BESIDES_MODELS)
        + (node.name in learning)
    ]


def refuse_untold(deployment: Deployment, file: str | Path) -> None:
    """Raises TopologyError where threads contend that keep samples: no profile tells what that takes of their cores."""
    if deployment.durability != "none":
        why = f"fewer cores than threads, and nothing tells what durability: {deployment.durability} takes of them"
        groups = dict.fromkeys(deployment.nodes[node].group for node in contended_nodes(deployment))
        if groups:
            problems = (f"{file}: $.nodes.{name}.profile: {why} (edgebench run it)" for name in groups)
            raise TopologyError([one_line(problem) for problem in problems])


def contended_groups(
    topology: Topology, fleet: Fleet, flows: Sequence[Flow], times: ServiceTimes, file: str | Path
) -> dict[str, Contended]:
    """The groups that any of them is of, by name; threads of the others find a core whenever they ask. Raises
    TopologyError where nothing tells what threads do there."""
    profiles = {profile.name: profile for profile in profiles_of(topology).values()}
    most = len(flows) + _BESIDES_MODELS + bool(topology.federated)
    if all(profile.cores >= most for profile in profiles.values()):
        return {}  # which is known without a look at each node
    deployment = places_of(fleet).deployment(topology, "simulate", topology.data)
    refuse_untold(deployment, file)
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
