"""What only tasks and Flower can say of a topology: is there such a task, such a strategy, can it do what is asked?"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

from edgebench.errors import EdgebenchError, TopologyError
from edgebench.executors.fault_checks import full_disk_problems
from edgebench.experiments.model_checks import check_model_files
from edgebench.experiments.profile_checks import profile_problems
from edgebench.fabric.brokers.choice import choose
from edgebench.federated.cohort import cloud_fraction, cohort_size
from edgebench.tasks import names, task_named
from edgebench.tasks.task import PROBABILISTIC, Loss, Task
from edgebench.topology import check, link_traces_of, profiles_of, refuse_unenforceable, resolve
from edgebench.topology.deployment import Deployment, FederatedPlan, WorkloadPlan
from edgebench.topology.model import Head, Natural, Topology
from edgebench.topology.profiles import HOST
from edgebench.topology.wording import one_line

Problems = Iterator[tuple[str, str]]
"""(path, problem): where in a topology, what is wrong and the mend."""


def checked_deployment(topology: Topology, file: Path, executor: str) -> Deployment:
    """What a topology resolves to, once all that can be said of it without starting anything has been checked.

    file: what messages call it. Raises TopologyError.
    """
    check(topology, file, tasks=names())
    refuse_unenforceable(topology, file, executor=executor)
    deployment = resolve(
        topology,
        run_id="validate",
        executor=executor,
        data=topology.data,
        profiles=profiles_of(topology),
        traces=link_traces_of(topology),
    )
    check_deployment(deployment, file)
    check_model_files(deployment, file)
    return deployment


def check_deployment(deployment: Deployment, file: str | Path) -> None:
    """Find tasks, strategies and Flower apps, and check what is asked of them.

    Raises one TopologyError with all problems.
    """
    found = list(_problems(deployment))
    if found:
        raise TopologyError([one_line(f"{file}: {path}: {problem}") for path, problem in found])


def _problems(deployment: Deployment) -> Problems:
    if deployment.broker_kind != "auto":
        try:
            choose(deployment.broker_kind)
        except EdgebenchError as error:
            yield "$.broker.kind", str(error)
    yield from profile_problems(deployment)
    yield from full_disk_problems(deployment)
    tasks: dict[str, Task] = {}
    for name, plan in deployment.workloads.items():
        path = f"$.workloads.{name}"
        try:
            tasks[name] = task_named(plan.task)
        except EdgebenchError as error:
            yield f"{path}.task", str(error)
            continue
        for field, problem in (*_of_workload(plan, tasks[name]), *_of_cut(plan, deployment)):
            yield f"{path}.{field}", problem
    for index, (name, federated) in enumerate(deployment.federated.items()):
        found = [*_of_cohort(federated, deployment), *_of_strategy(federated)]
        if name in tasks and federated.how.app is None:
            found += _of_learning(federated, deployment.workloads[name].task, tasks[name])
        for field, problem in found:
            yield f"$.federated[{index}].{field}", problem


def _of_workload(plan: WorkloadPlan, task: Task) -> Problems:
    trains = plan.model.source == "train" and plan.model.runtime != "fake"
    wanted = [("model.size", plan.model.size)] if trains else []
    if plan.cascade is not None:
        wanted.append(("cascade.size", plan.cascade.size))
    for field, size in wanted:
        if size not in task.models:
            yield field, f"{plan.task} has no '{size}' (write {' or '.join(task.models)})"
    if trains and plan.model.runtime == "onnx" and ":" not in plan.task:
        yield (
            "model.runtime",
            f"onnx files are made of torch modules, and {plan.task} has models of Keras (write litert)",
        )
    if plan.head is not None:
        if ":" not in plan.task:
            why = f"models of {plan.task} take its own samples, not what another gives for them"
            yield "task", f"{why} (name a task of your own, whose model takes dataset.spec)"
        yield from _of_head(plan.head)
    if plan.cascade is not None and getattr(task, "loss", None) not in PROBABILISTIC:
        why = f"the outputs of {plan.task} are no probabilities, so nothing tells how sure a model is"
        yield "place.infer", f"no cascade: {why} (use device, edge or cloud)"


def _of_cut(plan: WorkloadPlan, deployment: Deployment) -> Problems:
    if plan.split != "auto":
        return
    for nodes in plan.stage_nodes(deployment):
        if len({node.profile != HOST for node in nodes}) == 2:
            why = f"some of its {nodes[0].tier}s are emulated and some are not, and no place is the best for both"
            yield "split", f"{why} (write the number of one)"


def _of_head(head: Head) -> Problems:
    try:
        task = task_named(head.task)
    except EdgebenchError as error:
        yield "head.task", str(error)
        return
    if head.size not in task.models:
        yield "head.size", f"{head.task} has no '{head.size}' (write {' or '.join(task.models)})"
    if head.runtime == "onnx" and ":" not in head.task:
        yield (
            "head.runtime",
            f"onnx files are made of torch modules, and {head.task} has models of Keras (write litert)",
        )


def _of_learning(federated: FederatedPlan, name: str, task: Task) -> Problems:
    loss = getattr(task, "loss", None)
    if loss is None:
        yield "workload", f"{name} has no loss by which devices could learn (remove the entry)"
    elif callable(loss):
        if federated.how.fit.runtime == "litert":
            why = f"{name} has a loss of its own, by which devices learn with Keras only"
            yield "fit.runtime", f"{why} (write keras or torch)"
    elif loss not in get_args(Loss):
        named = ", ".join(get_args(Loss))
        yield "workload", f"the loss of {name}, {loss!r}, is none of {named} (name one of these, or give a function)"


def _of_cohort(plan: FederatedPlan, deployment: Deployment) -> Problems:
    how = plan.how
    asked = {"the cloud": cohort_size(len(plan.asked), cloud_fraction(how))}
    if "edge" in how.aggregate:
        asked |= {edge: cohort_size(len(devices), how.fraction) for edge, devices in plan.edges.items()}
    who, fewest = min(asked.items(), key=lambda each: each[1])
    if how.min_replies > fewest:
        yield "min_replies", f"{how.min_replies} is more than the {fewest} that {who} asks in a round (lower it)"
    if how.app is None and isinstance(how.partition, Natural) and deployment.data is None:
        yield "partition", "nothing tells generated patients apart (give data, or take iid or dirichlet)"
    if how.engine == "ray" and importlib.util.find_spec("ray") is None:
        yield "engine", "ray needs Ray, which is not installed (pip install 'edgebench[ray]')"
    if how.app is None and how.fit.runtime == "torch" and importlib.util.find_spec("torch") is None:
        yield "fit.runtime", "torch is not installed (pip install 'edgebench[torch]')"


def _of_strategy(plan: FederatedPlan) -> Problems:
    try:
        _find_strategy(plan)
    except EdgebenchError as error:
        yield "strategy" if plan.how.app is None else "app", str(error)


def _find_strategy(plan: FederatedPlan) -> None:
    how = plan.how
    if how.app is not None:
        from edgebench.federated.flower.apps import load_app
        from edgebench.federated.flower.needs import check_needs

        check_needs(load_app(Path(how.app)).configured(how.config))
    elif how.mode != "buffered":
        from edgebench.federated.flower.strategies import check_strategy

        name = how.strategy.name
        if "edge" in how.aggregate and name.startswith("DifferentialPrivacyClientSide"):
            raise EdgebenchError(f"'{name}' clips on devices, which edges hide from it (use the server-side one)")
        check_strategy(name, how.strategy.args, clients=len(plan.asked), fraction=cloud_fraction(how))
