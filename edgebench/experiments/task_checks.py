"""What only its tasks can say of a topology: is there such a task, and can it do what its workload asks for?"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from edgebench.errors import EdgebenchError, TopologyError
from edgebench.tasks import task_named
from edgebench.tasks.task import Task
from edgebench.topology.deployment import Deployment, FederatedPlan, WorkloadPlan
from edgebench.topology.wording import one_line

_PROBABILITIES = ("binary_crossentropy", "sparse_categorical_crossentropy")


def check_tasks(deployment: Deployment, file: str | Path) -> None:
    """Find the tasks, and check what is asked of them. Raises one TopologyError with all problems."""
    problems: list[tuple[str, str]] = []
    tasks: dict[str, Task] = {}
    for name, plan in deployment.workloads.items():
        path = f"$.workloads.{name}"
        try:
            tasks[name] = task_named(plan.task)
        except EdgebenchError as error:
            problems.append((f"{path}.task", str(error)))
            continue
        problems += [(f"{path}.{field}", problem) for field, problem in _problems(plan, tasks[name])]
    for index, (name, federated) in enumerate(deployment.federated.items()):
        if name in tasks:
            found = _of_federation(federated, deployment.workloads[name], tasks[name])
            problems += [(f"$.federated[{index}].{field}", problem) for field, problem in found]
    if problems:
        raise TopologyError([one_line(f"{file}: {path}: {problem}") for path, problem in problems])


def _problems(plan: WorkloadPlan, task: Task) -> Iterator[tuple[str, str]]:
    trains = plan.model.source == "train" and plan.model.runtime != "fake"
    wanted = [("model.size", plan.model.size)] if trains else []
    if plan.cascade is not None:
        wanted.append(("cascade.size", plan.cascade.size))
    for field, size in wanted:
        if size not in task.models:
            yield field, f"{plan.task} has no '{size}' (write {' or '.join(task.models)})"
    if plan.cascade is not None and getattr(task, "loss", None) not in _PROBABILITIES:
        why = f"the outputs of {plan.task} are no probabilities, so nothing tells how sure a model is"
        yield "place.infer", f"no cascade: {why} (use device, edge or cloud)"


def _of_federation(federated: FederatedPlan, plan: WorkloadPlan, task: Task) -> Iterator[tuple[str, str]]:
    if federated.how.app is not None:
        return
    loss = getattr(task, "loss", None)
    if loss is None:
        yield "workload", f"{plan.task} has no loss by which devices could learn (remove the entry)"
    elif callable(loss) and federated.how.fit.runtime == "litert":
        why = f"{plan.task} has a loss of its own, by which devices learn with Keras only"
        yield "fit.runtime", f"{why} (write keras or torch)"
