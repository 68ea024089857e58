"""`edgebench tasks`: what there is to decide, by which models, and from which data."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec

from edgebench.errors import EdgebenchError
from edgebench.tasks import names, task_named
from edgebench.tasks.task import DataSource


class ModelListed(msgspec.Struct, frozen=True):
    """A model of a task; parameters: for samples of its generated data."""

    architecture: str
    parameters: int | None


class SourceListed(msgspec.Struct, frozen=True):
    """A data set that a task can be learned from. found: where it lies, if it does and a folder was named."""

    name: str
    found: str | None
    how_to_get: str


class TaskListed(msgspec.Struct, frozen=True):
    """A built-in task."""

    name: str
    scenario: str
    metric: str
    models: dict[str, ModelListed]
    sources: list[SourceListed]


def built_in_tasks(data: Path | None) -> list[TaskListed]:
    """The built-in tasks, and which of their data sets are in `data`. Raises EdgebenchError where that is no folder."""
    if data is not None and not data.is_dir():
        raise EdgebenchError(f"--data {data}: no such folder (name one that has the data sets in it)")
    tasks = [task_named(name) for name in names()]
    return [
        TaskListed(
            name=task.name,
            scenario=task.scenario,
            metric=task.metric,
            models={size: ModelListed(model.architecture, model.parameters) for size, model in task.models.items()},
            sources=_listed(task.sources(), data),
        )
        for task in tasks
    ]


def _listed(sources: Sequence[DataSource], data: Path | None) -> list[SourceListed]:
    places = [(source, None if data is None else source.find(data)) for source in sources]
    return [
        SourceListed(source.name, None if found is None else str(found), source.how_to_get) for source, found in places
    ]
