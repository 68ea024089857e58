"""Do the models that a topology names fit? Found out before anything starts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from cloud.own_models import fits, manifest_of, problem_of, shown
from cloud.registry import Registry
from edgebench.errors import EdgebenchError, ModelError, TopologyError
from edgebench.inference.spec import Manifest
from edgebench.tasks import task_named
from edgebench.tasks.classifier import Classifier
from edgebench.topology.deployment import Deployment, WorkloadPlan
from edgebench.topology.wording import one_line

Find = Callable[[WorkloadPlan], tuple[Path, Manifest]]
_IN_REGISTRY = "sha256:"


def check_model_files(deployment: Deployment, file: str | Path) -> None:
    """Read the model files that workloads name. Raises one TopologyError with all problems."""
    _check(deployment, file, lambda source: source != "train" and not source.startswith(_IN_REGISTRY), _own)


def check_models(deployment: Deployment, file: str | Path, registry_dir: Path) -> None:
    """What `check_model_files` leaves to a run: models of the registry, and whether each fits the workload's samples.

    Loads the data of workloads whose model is named. Raises one TopologyError with all problems, or DataError.
    """
    _check(deployment, file, lambda source: source.startswith(_IN_REGISTRY), partial(_kept, registry_dir))
    problems = []
    for name, plan in deployment.workloads.items():
        if plan.model.source == "train":
            continue
        path, manifest = _found(plan, registry_dir)
        data = None if deployment.data is None else Path(deployment.data)
        sample = task_named(plan.task).load(data, seed=deployment.seed).spec
        if not fits(manifest.input, sample):
            takes = f"takes {shown(manifest.input)}, samples of {plan.task} are {shown(sample)} (name another)"
            problems.append(_line(file, name, path, takes))
    if problems:
        raise TopologyError(problems)


def _check(deployment: Deployment, file: str | Path, concerns: Callable[[str], bool], find: Find) -> None:
    problems = [
        _line(file, name, plan.model.source, problem)
        for name, plan in deployment.workloads.items()
        if concerns(plan.model.source)
        for problem in _problems(plan, find)
    ]
    if problems:
        raise TopologyError(problems)


def _problems(plan: WorkloadPlan, find: Find) -> Iterator[str]:
    try:
        path, manifest = find(plan)
        problem = problem_of(path, manifest, plan.task) or _of_task(plan, manifest)
    except EdgebenchError as error:
        problem = str(error)
    except OSError as error:
        problem = f"cannot be read: {error.strerror}"
    if problem is not None:
        yield problem


def _of_task(plan: WorkloadPlan, manifest: Manifest) -> str | None:
    if manifest.part is not None:
        return f"is the {manifest.part.kind} of a model that was cut in two (name a whole one)"
    task = task_named(plan.task)
    if not isinstance(task, Classifier):
        return None  # nothing but a decision tells
    wanted = 1 if task.classes == 2 else task.classes
    if manifest.outputs == wanted:
        return None
    return f"gives {manifest.outputs} values a sample, {plan.task} takes {wanted} (name another)"


def _found(plan: WorkloadPlan, registry_dir: Path) -> tuple[Path, Manifest]:
    return _kept(registry_dir, plan) if plan.model.source.startswith(_IN_REGISTRY) else _own(plan)


def _own(plan: WorkloadPlan) -> tuple[Path, Manifest]:
    path = Path(plan.model.source)
    return path, manifest_of(path, plan.task)


def _kept(registry_dir: Path, plan: WorkloadPlan) -> tuple[Path, Manifest]:
    try:
        return Registry(registry_dir).open(plan.model.source.removeprefix(_IN_REGISTRY))
    except ModelError as error:
        raise ModelError(f"{error} (see --registry)") from error


def _line(file: str | Path, workload: str, source: str | Path, problem: str) -> str:
    return one_line(f"{file}: $.workloads.{workload}.model.source: {source}: {problem}")
