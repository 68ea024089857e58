"""What all tasks that tell classes apart have in common: a task of one's own adds its data and its model."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from edgebench.errors import TaskError
from edgebench.seeds import rng_for, seed_everything
from edgebench.tasks.metrics import binary_intervals, binary_metrics, class_intervals, class_metrics, class_right
from edgebench.tasks.task import Baseline, Dataset, DataSource, FitOptions, Loss, ModelInfo, Size, Split
from edgebench.tasks.user_task_checks import problem_of_keras, problem_of_metrics

if TYPE_CHECKING:
    import keras
    import torch


class Classifier(ABC):
    """Implements `edgebench.tasks.task.Task` but for the members below, which a subclass gives.

    name: what topologies call it: `module:attribute`, or a name of the built-in tasks. classes: how many; with 2,
    models have one output, the probability of class 1, and labels are 0 or 1. `load` and `build` are to be written.
    """

    name: str
    classes: int
    scenario: str = "own"
    models: Mapping[Size, ModelInfo] = {"light": ModelInfo("its own")}
    epochs: ClassVar[int] = 10
    patience: ClassVar[int] = 3
    batch_size: ClassVar[int] = 32
    learning_rate: ClassVar[float] = 1e-3

    @abstractmethod
    def load(self, data: Path | None, *, seed: int) -> Dataset:
        """See `Task.load`."""

    @abstractmethod
    def build(self, size: Size, dataset: Dataset) -> keras.Model | torch.nn.Module:
        """A new model for samples like those of `dataset`.

        A Keras one gives probabilities float32 [batch, output]; a torch module gives logits of the same shape, and is
        kept with the sigmoid or softmax at its end.
        """

    @property
    def metric(self) -> str:
        """The metric that models are compared by."""
        return "auroc" if self.classes == 2 else "top1"

    @property
    def loss(self) -> Loss:
        """See `Task.loss`."""
        return "binary_crossentropy" if self.classes == 2 else "sparse_categorical_crossentropy"

    def sources(self) -> Sequence[DataSource]:
        """See `Task.sources`; none, unless a subclass has some."""
        return ()

    def fit(self, size: Size, dataset: Dataset, options: FitOptions) -> keras.Model | torch.nn.Module:
        """See `Task.fit`: by Adam, the best epoch on `dataset.valid` kept."""
        import keras

        from edgebench.tasks.fitting import EarlyStopping, first_groups, keep_best
        from edgebench.tasks.models import outputs_of

        for name, split in (("train", dataset.train), ("valid", dataset.valid), ("test", dataset.test)):
            self._check_labels(name, split)
        seed_everything(options.seed, "fit", size)
        model = self.build(size, dataset)
        if isinstance(model, keras.Model):
            self._check_model(model, dataset)
        train = first_groups(dataset.train, options.examples, seed=options.seed)
        how = EarlyStopping(options.epochs or self.epochs, patience=self.patience)
        if not isinstance(model, keras.Model):
            from edgebench.tasks.torch_fitting import ModuleTraining

            training = ModuleTraining(
                model,
                train,
                classes=self.classes,
                batch_size=self.batch_size,
                learning_rate=self.learning_rate,
                seed=options.seed,
            )
            keep_best(
                training,
                how,
                train_epoch=training.train_epoch,
                quality=lambda: self.quality(training.outputs(dataset.valid.x), dataset.valid.y),
                progress=options.progress,
            )
            return training.whole.eval()
        model.compile(keras.optimizers.Adam(self.learning_rate), self.loss, jit_compile=False)

        def train_epoch(epoch: int) -> float:
            rows = rng_for(options.seed, "epoch", epoch).permutation(len(train))
            ran = model.fit(train.x[rows], train.y[rows], batch_size=self.batch_size, shuffle=False, verbose=0)
            return float(ran.history["loss"][-1])

        def quality() -> float:
            return self.quality(outputs_of(model, dataset.valid.x), dataset.valid.y)

        keep_best(model, how, train_epoch=train_epoch, quality=quality, progress=options.progress)
        return model

    def score(self, outputs: NDArray[np.float32], labels: NDArray[np.float32]) -> dict[str, float]:
        """`auroc` and `auprc` of two classes, `top1` and `top5` of more."""
        return binary_metrics(outputs, labels) if self.classes == 2 else class_metrics(outputs, labels)

    def quality(self, outputs: NDArray[np.float32], labels: NDArray[np.float32]) -> float:
        """The metric that models are compared by. Raises TaskError where `score` does not give it."""
        found = self.score(outputs, labels)
        self._refuse("score gave", problem_of_metrics(found, self.metric))
        return float(found[self.metric])

    def _check_labels(self, name: str, split: Split) -> None:
        wrong = split.y[~np.isin(split.y, np.arange(self.classes))]
        if len(wrong):
            self._refuse(
                "load gave", f"a label {wrong[0]:g} in {name}, where {self.classes} classes are 0 to {self.classes - 1}"
            )

    def _check_model(self, model: keras.Model, dataset: Dataset) -> None:
        if not getattr(model, "inputs", None):  # it may get its inputs from the first samples
            return
        self._refuse("build gave", problem_of_keras(model, dataset.spec))
        outputs, wanted = model.output_shape[-1], 1 if self.classes == 2 else self.classes
        if outputs != wanted:
            self._refuse("build gave", f"a model of {outputs} outputs, where {self.classes} classes take {wanted}")

    def _refuse(self, what: str, problem: str | None) -> None:
        if problem is not None:
            raise TaskError(f"task '{self.name}': {what} {problem}")

    def right(self, outputs: NDArray[np.float32], labels: NDArray[np.float32]) -> NDArray[np.float32]:
        """See `Task.right`: the likeliest class is the true one."""
        if self.classes > 2:
            return class_right(outputs, labels)
        return ((outputs[:, 0] > 0.5) == (labels[:, 0] > 0.5)).astype(np.float32)

    def intervals(
        self,
        outputs: NDArray[np.float32],
        labels: NDArray[np.float32],
        *,
        seed: int,
        group: NDArray[np.int64] | None = None,
    ) -> dict[str, tuple[float, float]]:
        """See `Task.intervals`."""
        found = binary_intervals if self.classes == 2 else class_intervals
        return found(outputs, labels, seed=seed, group=group)

    def baseline(self, dataset: Dataset, *, seed: int) -> Baseline:
        """See `Task.baseline`: logistic regression on the samples as they are."""
        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler

        def flat(x: NDArray[Any]) -> NDArray[np.float32]:
            return x.reshape(len(x), -1).astype(np.float32)

        fitted = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1_000))
        fitted.fit(flat(dataset.train.x), dataset.train.y[:, 0])

        def scored(split: Split) -> dict[str, float]:
            found = fitted.predict_proba(flat(split.x))
            outputs = found[:, 1:] if self.classes == 2 else found
            return self.score(outputs.astype(np.float32), split.y)

        beside = {where: scored(split) for where, split in dataset.beside.items()}
        return Baseline("logistic regression", scored(dataset.test), beside)
