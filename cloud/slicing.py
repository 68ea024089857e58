"""Cutting a deployment into what each node process needs to know."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from cloud.link_turns import ask_first, links_with_samples
from edgebench.core.expecting import expected_of
from edgebench.fabric.shelves import Caller, digest_of_token
from edgebench.fabric.slices import WATCHER, Endpoints, Share, Slice
from edgebench.topology.deployment import Deployment, WorkloadPlan
from edgebench.topology.presence import presences


def slice_for(
    deployment: Deployment,
    nodes: list[str],
    endpoints: dict[str, Endpoints],
    traces: dict[str, list[float]],
    tokens: Mapping[str, Caller] = {},
) -> Slice:
    """The slice of one process's nodes. `nodes` must be names of the deployment. tokens: see `CloudSpec`."""
    own = set(nodes)
    below = {device.name for device in deployment.of_tier("device") if _is_or_is_below(deployment, device.name, own)}
    comers = {
        device: edge
        for edge in nodes
        if deployment.nodes[edge].tier == "edge"
        for device in deployment.nodes[edge].elsewhere
    }
    workloads = {
        plan.name: _cut(plan, below, comers, deployment)
        for plan in deployment.workloads.values()
        if (below | comers.keys()) & plan.deciders.keys()
    }
    shares: dict[str, dict[str, Share]] = {}
    for plan in deployment.workloads.values():
        for index, device in enumerate(plan.deciders):
            if device in own:
                shares.setdefault(device, {})[plan.name] = Share(index, len(plan.deciders))
    with_samples = links_with_samples(deployment).keys()
    return Slice(
        run_id=deployment.run_id,
        seed=deployment.seed,
        duration_s=deployment.duration_s,
        nodes={name: deployment.nodes[name] for name in nodes},
        endpoints={name: endpoints[name] for name in nodes},
        workloads=workloads,
        shares=shares,
        traces={name: times for name, times in traces.items() if name in workloads},
        moves=tuple(
            move for move in deployment.moves if {move.node, move.to, deployment.nodes[move.node].parent} & own
        ),
        federated={name: plan for name, plan in deployment.federated.items() if below & set(plan.clients)},
        expected={name: expected_of(deployment.workloads[name], deployment) for name in workloads},
        callers=_callers(deployment, nodes, tokens),
        profiles={
            name: profile
            for name, profile in deployment.profiles.items()
            if any(deployment.nodes[node].profile == name for node in nodes)
        },
        presence={device: spans for device, spans in presences(deployment.faults).items() if device in below},
        durability=deployment.durability,
        learning_sites=_learning_sites(deployment, deployment.nodes[nodes[0]].machine),
        by_turns=ask_first(deployment, nodes, with_samples),
        boards={device: board for device in sorted(below) if (board := deployment.nodes[device].board) is not None},
    )


def _learning_sites(deployment: Deployment, machine: str) -> int:
    """On a machine; each has an agent there."""
    clients = {client for plan in deployment.federated.values() if plan.over_mqtt for client in plan.clients}
    return len({node.parent for node in map(deployment.nodes.__getitem__, clients) if node.machine == machine})


def _callers(deployment: Deployment, nodes: list[str], tokens: Mapping[str, Caller]) -> dict[str, Caller]:
    """Whom these nodes, if they are edges that aggregate, serve: their devices there, and the executor."""
    clients = {
        device
        for plan in deployment.federated.values()
        if plan.edges_aggregate
        for edge in nodes
        for device in plan.edges.get(edge, ())
    }
    if not clients:
        return {}
    served = {
        digest_of_token(token): Caller(caller.nodes & (clients | {WATCHER}), caller.machine)
        for token, caller in tokens.items()
    }
    return {digest: caller for digest, caller in served.items() if caller.nodes}


def _cut(plan: WorkloadPlan, devices: set[str], comers: dict[str, str], deployment: Deployment) -> WorkloadPlan:
    """The plan with the deciders of these devices, and of those that come to an edge from elsewhere."""
    deciders = {device: decider for device, decider in plan.deciders.items() if device in devices}
    for device, edge in comers.items():
        if device in plan.deciders:
            at_home = plan.deciders[device]
            deciders[device] = edge if at_home == deployment.nodes[device].parent else at_home
    return msgspec.structs.replace(plan, deciders=deciders)


def _is_or_is_below(deployment: Deployment, device: str, nodes: set[str]) -> bool:
    name: str | None = device
    while name is not None:
        if name in nodes:
            return True
        name = deployment.nodes[name].parent
    return False
