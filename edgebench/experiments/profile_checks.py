"""Does each profile hold what the nodes that are emulated by it will do? Found out before anything starts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path

from cloud.export import BATCHES
from edgebench.core.service_times import lacking, splits_by
from edgebench.errors import EdgebenchError
from edgebench.fabric.message_sizes import Sizes, Ways, message_problems, sizes_of
from edgebench.inference.spec import TensorSpec
from edgebench.tasks import task_named
from edgebench.topology.deployment import Deployment, FederatedPlan, NodePlan, WorkloadPlan, is_simulated
from edgebench.topology.model import Cascade, Head, ModelChoice
from edgebench.topology.profiles import HOST, ModelKey, Profile
from edgebench.topology.wording import listed

Problem = tuple[str, str]


def profile_problems(deployment: Deployment) -> Iterator[Problem]:
    """(path in the topology, problem), each once, whatever the number of nodes."""
    found: dict[Problem, None] = {}
    ways = [Ways.of(plan, deployment) for plan in deployment.workloads.values()]
    for node in deployment.nodes.values():
        if node.profile != HOST:
            profile = deployment.profiles[node.profile]
            path = f"$.nodes.{node.group}.profile"
            found.update(dict.fromkeys((path, problem) for problem in _of_node(deployment, node, profile, ways)))
    yield from found
    if not is_simulated(deployment):  # whose messages take what they took in a run
        yield from message_problems(deployment, lambda plan: _sizes_before(deployment, plan))


def _sizes_before(deployment: Deployment, plan: WorkloadPlan) -> Sizes:
    """What of its messages is known without its model: samples that go as they are."""
    if plan.compress is not None:
        return Sizes()
    try:
        task_named(plan.task)
    except EdgebenchError:  # which is told of the workload
        return Sizes()
    return sizes_of(plan, deployment, _sample_of(plan.task, deployment.data, deployment.seed))


@lru_cache
def _sample_of(task: str, data: str | None, seed: int) -> TensorSpec:
    """One sample of a task. Raises DataError. Loaded once, however many runs of a sweep there are."""
    return task_named(task).load(None if data is None else Path(data), seed=seed).spec


def _of_node(deployment: Deployment, node: NodePlan, profile: Profile, ways: Sequence[Ways]) -> Iterator[str]:
    if node.board is not None:
        yield f"{node.name} is played by a device of its own, which is as fast as it is (use {HOST})"
    if node.tier != "device" and deployment.broker_url is not None:
        yield f"'{profile.name}' has the {node.tier}'s broker beside it, and the run has one elsewhere (use {HOST})"
    for each in ways:
        if each.pass_by(node):
            yield from _of_workload(each, node, profile)
    yield from _of_learning(deployment, node, profile)


def _of_workload(ways: Ways, node: NodePlan, profile: Profile) -> Iterator[str]:
    plan = ways.plan
    decides = node.name in ways.deciders
    decides_more = node.tier == "cloud" and plan.goes_on
    for asked in plan.models_on(node, ways.deciders):
        yield from _of_model(plan, asked, profile, 1 if node.tier == "device" else plan.batch.max_batch)
        if profile.wake is None:
            yield f"'{profile.name}' has no times of waking the thread of a model ({_MEASURE})"
    if not ways.travel_by(node):
        return
    if not profile.message_costs(plan.qos):
        yield f"'{profile.name}' has no times of messages with qos {plan.qos} ({_MEASURE})"
    # What the second stage of a chain takes in is no picture.
    takes_pictures = decides or (decides_more and not plan.is_chain)
    if plan.compress is not None and (takes_pictures or node.tier == "device"):
        quality = plan.compress.quality
        if profile.picture_cost(plan.task, quality) is None:
            yield f"'{profile.name}' has no times of pictures of {plan.task} at quality {quality} ({_MEASURE})"


def _of_model(
    plan: WorkloadPlan, asked: ModelChoice | Cascade | Head, profile: Profile, max_batch: int
) -> Iterator[str]:
    if isinstance(asked, ModelChoice) and asked.source != "train":
        yield f"'{profile.name}' has no times of the model that {plan.name} names (set its model.source to train)"
        return
    task = asked.task if isinstance(asked, Head) else plan.task
    model = ModelKey(task, asked.size, asked.runtime, asked.quantisation)
    missing = lacking(profile.model_times(model), splits_by(asked.runtime, BATCHES), max_batch)
    if missing:
        sizes = listed([str(size) for size in missing])
        mend = _MEASURE if asked.runtime in ("litert", "onnx") else _LITERT_AND_ONNX
        yield f"'{profile.name}' has no times of {model} for batches of {sizes} ({mend})"


def _of_learning(deployment: Deployment, node: NodePlan, profile: Profile) -> Iterator[str]:
    for plan in deployment.federated.values():
        if node.tier == "cloud" or (plan.edges_aggregate and node.name in plan.edges):
            yield f"'{profile.name}' has no times of aggregating what devices have learned (use {HOST})"
        elif node.name in plan.clients:
            yield from _of_client(deployment.workloads[plan.how.workload], plan, profile)
    if node.tier == "cloud" and any(plan.rollout for plan in deployment.workloads.values()):
        yield f"'{profile.name}' has no times of training while streams run (use {HOST}, or remove rollout)"


def _of_client(learned: WorkloadPlan, plan: FederatedPlan, profile: Profile) -> Iterator[str]:
    how = plan.how
    if how.app is not None:
        yield f"'{profile.name}' has no times of a Flower app of one's own (use {HOST})"
    elif not plan.over_mqtt:
        yield f"the engine {how.engine} has its clients beside the cloud, where nothing is emulated (use mqtt)"
    elif profile.training_cost(learned.task, learned.model.size, how.fit, how.batch_size) is None:
        step = f"a training step of {learned.task}, {learned.model.size}, {how.fit.runtime}, {how.batch_size} samples"
        mend = f"{_MEASURE} --train-batch {how.batch_size}" if how.fit.runtime == "litert" else _LITERT_ALONE
        yield f"'{profile.name}' has no times of {step} ({mend})"


_MEASURE = "measure them: edgebench profile"
_LITERT_AND_ONNX = "edgebench profile measures litert and onnx alone: set model.runtime to one, or write them down"
_LITERT_ALONE = "edgebench profile measures learning with litert alone: set fit.runtime to it, or write them down"
