"""A task of a user's own, whose every answer is checked where it comes in.

What it raises or gives wrongly is told in one line that names the task, and the place in its file or what is wrong.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edgebench.errors import EdgebenchError, TaskError, describe_error, home_of
from edgebench.tasks import user_task_checks as checks
from edgebench.tasks.classifier import Classifier
from edgebench.tasks.task import Baseline, Dataset, DataSource, Epoch, FitOptions, Loss, ModelInfo, Size, Task, UserLoss

if TYPE_CHECKING:
    import keras
    import torch


class UserTask:
    """The task found at `path` (`module:attribute`), which is its name. Implements `Task`: what `task` gives, if sound.

    home: where the user's files are, see `describe_error`. Each method raises TaskError with what is wrong with it,
    and any EdgebenchError that the task raises itself.
    """

    loss: Loss | UserLoss
    right: Callable[[NDArray[np.float32], NDArray[np.float32]], NDArray[np.float32]]
    sources: Callable[[], Sequence[DataSource]]

    def __init__(self, path: str, task: Task, home: Path | None) -> None:
        self.name = path
        self._task = task
        self._home = home
        self.scenario: str = task.scenario
        self.metric: str = task.metric
        self.models: Mapping[Size, ModelInfo] = task.models
        # What a task may lack.
        for part in ("loss", "sources"):
            if hasattr(task, part):
                setattr(self, part, getattr(task, part))
        if hasattr(task, "right"):
            self.right = self._judge

    def load(self, data: Path | None, *, seed: int) -> Dataset:
        """See `Task.load`."""
        with self._blamed("load"):
            dataset = self._task.load(data, seed=seed)
        self._refuse("load gave", checks.problem_of_dataset(dataset))
        return dataset

    def fit(self, size: Size, dataset: Dataset, options: FitOptions) -> keras.Model | torch.nn.Module:
        """See `Task.fit`."""
        import keras

        progress = options.progress

        def checked(epoch: Any) -> None:
            self._refuse("fit reported", checks.problem_of_epoch(epoch))
            assert progress is not None
            progress(Epoch(int(epoch.epoch), int(epoch.epochs), float(epoch.loss), float(epoch.quality), epoch.picture))

        options = replace(options, progress=None if progress is None else checked)
        with self._blamed("fit"):
            model: Any = self._task.fit(size, dataset, options)
        if isinstance(model, keras.Model):
            self._refuse("fit gave", checks.problem_of_keras(model, dataset.spec))
        elif "torch" in sys.modules and isinstance(model, sys.modules["torch"].nn.Module):
            with self._blamed("the module that fit gave"):
                outputs = checks.tried(model, dataset.spec)
            self._refuse("fit gave", checks.problem_of_torch(outputs))
        else:
            either = "neither a Keras model nor a torch module (return the model)"
            self._refuse("fit gave", f"{checks.kind(model)}, {either}")
        return model

    def score(self, outputs: NDArray[np.float32], labels: NDArray[np.float32]) -> dict[str, float]:
        """See `Task.score`."""
        with self._blamed("score"):
            found: Any = self._task.score(outputs, labels)
        self._refuse("score gave", checks.problem_of_metrics(found, self.metric))
        return _floats(found)

    def intervals(
        self,
        outputs: NDArray[np.float32],
        labels: NDArray[np.float32],
        *,
        seed: int,
        group: NDArray[np.int64] | None = None,
    ) -> dict[str, tuple[float, float]]:
        """See `Task.intervals`."""
        with self._blamed("intervals"):
            found: Any = self._task.intervals(outputs, labels, seed=seed, group=group)
        self._refuse("intervals gave", checks.problem_of_intervals(found, self.metric))
        return {str(name): (float(low), float(high)) for name, (low, high) in found.items()}

    def baseline(self, dataset: Dataset, *, seed: int) -> Baseline:
        """See `Task.baseline`."""
        with self._blamed("baseline"):
            found: Any = self._task.baseline(dataset, seed=seed)
        self._refuse("baseline gave", checks.problem_of_baseline(found, self.metric))
        beside = {str(where): _floats(metrics) for where, metrics in found.beside.items()}
        return Baseline(str(found.name), _floats(found.metrics), beside)

    def _judge(self, outputs: NDArray[np.float32], labels: NDArray[np.float32]) -> NDArray[np.float32]:
        with self._blamed("right"):
            found = np.asarray(self._task.right(outputs, labels))
        self._refuse("right gave", checks.problem_of_judgement(found, len(outputs)))
        return found.astype(np.float32)

    @contextmanager
    def _blamed(self, part: str) -> Iterator[None]:
        try:
            yield
        except EdgebenchError:
            raise
        except (Exception, SystemExit) as error:
            raise TaskError(f"task '{self.name}': {part} failed: {describe_error(error, self._home)}") from error

    def _refuse(self, what: str, problem: str | None) -> None:
        if problem is not None:
            raise TaskError(f"task '{self.name}': {what} {problem}")


def user_task(path: str, module: ModuleType, found: Any) -> Task:
    """What stands at `path`, which is `module:attribute`, if it is a task; raises TaskError."""
    if isinstance(found, type):
        mend = f"add `TASK = {found.__name__}()` to its module, and name {module.__name__}:TASK"
        raise TaskError(f"task '{path}': a class, not a task ({mend})")
    home = home_of(module)
    try:
        lacking = [part for part in _PARTS if not hasattr(found, part)]
        if isinstance(found, Classifier):  # which derives the further parts from what it has to be given
            lacking = [part for part in ("name", "classes") if not hasattr(found, part)] or lacking
        if not lacking:
            task = UserTask(path, found, home)
            problem = checks.problem_of_parts(task) or checks.problem_of_fit(found.fit)
            if problem is not None:
                raise TaskError(f"task '{path}': {problem}")
            return task
    except EdgebenchError:
        raise
    except (Exception, SystemExit) as error:
        raise TaskError(f"task '{path}': one of its parts cannot be had: {describe_error(error, home)}") from error
    raise TaskError(f"task '{path}': not a task, it lacks {', '.join(lacking)} (see edgebench.tasks.task.Task)")


_PARTS = ("name", "scenario", "metric", "models", "load", "fit", "score", "intervals", "baseline")


def _floats(metrics: Mapping[str, Any]) -> dict[str, float]:
    return {str(name): float(value) for name, value in metrics.items()}
