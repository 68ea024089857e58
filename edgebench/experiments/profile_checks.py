"""Does each profile hold what the nodes that are emulated by it will do? Found out before anything starts."""

from __future__ import annotations

from collections.abc import Iterator

from cloud.export import BATCHES
from edgebench.core.service_times import lacking, splits_by
from edgebench.topology.deployment import Deployment, NodePlan, WorkloadPlan
from edgebench.topology.model import Cascade, ModelChoice
from edgebench.topology.profiles import HOST, ModelKey, Profile
from edgebench.topology.wording import listed

Problem = tuple[str, str]


def profile_problems(deployment: Deployment) -> Iterator[Problem]:
    """(path in the topology, problem), each once, whatever the number of nodes."""
    found: dict[Problem, None] = {}
    for node in deployment.nodes.values():
        if node.profile != HOST:
            profile = deployment.profiles[node.profile]
            path = f"$.nodes.{node.group}.profile"
            found.update(dict.fromkeys((path, problem) for problem in _of_node(deployment, node, profile)))
    yield from found


def _of_node(deployment: Deployment, node: NodePlan, profile: Profile) -> Iterator[str]:
    if node.board is not None:
        yield f"{node.name} is played by a device of its own, which is as fast as it is (use {HOST})"
    for plan in deployment.workloads.values():
        if _passes(deployment, node, plan):
            yield from _of_workload(node, plan, profile)
    yield from _of_learning(deployment, node, profile)


def _passes(deployment: Deployment, node: NodePlan, plan: WorkloadPlan) -> bool:
    """Whether a workload's samples come from the node, or come by."""
    if node.name in plan.deciders or node.name in plan.deciders.values():
        return True
    if node.tier == "cloud":
        return plan.cascade is not None
    return any(node.name in deployment.nodes[device].sites for device in plan.deciders)


def _of_workload(node: NodePlan, plan: WorkloadPlan, profile: Profile) -> Iterator[str]:
    decides = node.name in plan.deciders.values()
    if decides or (node.tier == "cloud" and plan.cascade is not None):
        asked = plan.cascade if node.tier == "cloud" and plan.cascade is not None else plan.model
        yield from _of_model(plan, asked, profile, 1 if node.tier == "device" else plan.batch.max_batch)
    if node.tier == "device" and decides:
        return  # nothing travels
    if not profile.message_costs(plan.qos):
        yield f"'{profile.name}' has no times of messages with qos {plan.qos} ({_MEASURE})"
    if plan.compress is not None and (decides or node.tier == "device"):
        quality = plan.compress.quality
        if profile.picture_cost(plan.task, quality) is None:
            yield f"'{profile.name}' has no times of pictures of {plan.task} at quality {quality} ({_MEASURE})"


def _of_model(plan: WorkloadPlan, asked: ModelChoice | Cascade, profile: Profile, max_batch: int) -> Iterator[str]:
    if isinstance(asked, ModelChoice) and asked.source != "train":
        yield f"'{profile.name}' has no times of the model that {plan.name} names (set its model.source to train)"
        return
    model = ModelKey(plan.task, asked.size, asked.runtime, asked.quantisation)
    missing = lacking(profile.model_times(model), splits_by(asked.runtime, BATCHES), max_batch)
    if missing:
        sizes = listed([str(size) for size in missing])
        yield f"'{profile.name}' has no times of {model} for batches of {sizes} ({_MEASURE})"


def _of_learning(deployment: Deployment, node: NodePlan, profile: Profile) -> Iterator[str]:
    for plan in deployment.federated.values():
        takes_part = node.name in plan.clients or (node.name in plan.edges and plan.edges_aggregate)
        if takes_part or node.tier == "cloud":
            yield f"'{profile.name}' has no times of federated learning (use {HOST})"
    if node.tier == "cloud" and any(plan.rollout for plan in deployment.workloads.values()):
        yield f"'{profile.name}' has no times of training while streams run (use {HOST}, or remove rollout)"


_MEASURE = "measure them: edgebench profile"
