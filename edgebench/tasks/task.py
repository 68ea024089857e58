"""What a task is: data, models, metric. One package or module a task, behind this seam."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

import msgspec
import numpy as np
from numpy.typing import NDArray

from edgebench.errors import DataError
from edgebench.inference.spec import TensorSpec
from edgebench.tasks.files import holds, is_folder, listed

if TYPE_CHECKING:
    import keras
    import torch

Size = Literal["light", "heavy", "published"]
"""`light` runs at the edge, `heavy` in the cloud; `published` is the shape of the literature."""

Loss = Literal["binary_crossentropy", "sparse_categorical_crossentropy", "mean_squared_error"]
"""What learning makes small: of probabilities for 0 or 1, of probabilities by class for a class number, of values."""

PROBABILISTIC: tuple[Loss, ...] = ("binary_crossentropy", "sparse_categorical_crossentropy")
"""Those of models whose outputs tell how sure they are."""

UserLoss = Callable[[Any, Any], Any]
"""A task's own: losses [batch], by `keras.ops`, of labels float32 [batch, label] and outputs [batch, output]."""


@dataclass(frozen=True)
class Split:
    """Samples that belong together.

    x: [sample, *shape] as `Dataset.spec` says; y: float32 [sample, label]; group: int64 [sample], the
    patient (subject, track, …) that a sample comes from. No group stands in two splits of a dataset.
    key: int64 [sample], the value of `Dataset.natural_key`, where the data set has one.
    """

    x: NDArray[Any]
    y: NDArray[np.float32]
    group: NDArray[np.int64]
    key: NDArray[np.int64] | None = None

    def __len__(self) -> int:
        return len(self.x)

    def rows(self, indices: NDArray[np.int64]) -> Split:
        """The samples with these row numbers, in this order."""
        key = None if self.key is None else self.key[indices]
        return Split(x=self.x[indices], y=self.y[indices], group=self.group[indices], key=key)


@dataclass(frozen=True)
class Dataset:
    """What a task learns from. `real` is false for generated data, and every figure says so.

    natural_key: what sets the groups apart by where they come from (the hospital, say), if the data tells.
    beside: further test sets by name, whose figures stand beside those of `test` and never in their place.
    """

    source: str
    real: bool
    features: tuple[str, ...]
    train: Split
    valid: Split
    test: Split
    natural_key: str | None = None
    beside: Mapping[str, Split] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        splits: Mapping[str, Split],
        *,
        source: str,
        real: bool,
        features: tuple[str, ...],
        natural_key: str | None = None,
        beside: Mapping[str, Split] | None = None,
    ) -> Dataset:
        """Of the splits `train`, `valid` and `test`."""
        train, valid, test = (splits[name] for name in ("train", "valid", "test"))
        return cls(source, real, features, train, valid, test, natural_key, beside or {})

    @property
    def spec(self) -> TensorSpec:
        """The input of one sample."""
        return TensorSpec(dtype=str(self.train.x.dtype), shape=self.train.x.shape[1:])


@dataclass(frozen=True)
class DataSource:
    """A layout in which people download a data set.

    name: what the set is called. folder: its usual name. markers: any one of these (files or folders, as glob patterns)
    tells it. how_to_get: what to download, from whom, under which terms, and where to put it, in a line. never_in:
    names of folders that look like this one and hold another set.
    """

    name: str
    folder: str
    markers: Sequence[str]
    how_to_get: str
    load: Callable[[Path], Dataset]
    never_in: Sequence[str] = ()

    def find(self, data: Path, closed: list[DataError] | None = None) -> Path | None:
        """The folder of the set: `data` itself, its usual place in it, or a folder of `data` that looks like it.

        closed: gets what says which folders of `data` may not be read; they are passed over, for most belong to others.
        Raises DataError where `data` or the usual place may not be read.
        """
        for folder in (data, data / self.folder):
            if self._tells(folder):
                return folder
        for child in listed(data, "*"):
            places = (child / self.folder, *([] if child.name in self.never_in else [child]))
            try:
                if not is_folder(child):  # which names it where it may not be read, and nothing that would be in it
                    continue
                found = next((folder for folder in places if self._tells(folder)), None)
            except DataError as error:
                if closed is not None:
                    closed.append(error)
                continue
            if found is not None:
                return found
        return None

    def _tells(self, folder: Path) -> bool:
        return any(holds(folder, marker) for marker in self.markers)


class Epoch(msgspec.Struct, frozen=True):
    """Progress of a training: epochs count from 1; `quality` is the task's metric on `valid`.

    picture: a PNG of what the weights that are kept so far can draw, from a model that draws.
    """

    epoch: int
    epochs: int
    loss: float
    quality: float
    picture: bytes = b""


@dataclass(frozen=True, kw_only=True)
class FitOptions:
    """How a model is trained.

    epochs: at most; None for as many as the task thinks right. examples: how many groups of `Dataset.train`, the first
    ones after a seeded shuffle, to learn from; None for all. progress: called after each epoch.
    """

    seed: int
    epochs: int | None = None
    examples: int | None = None
    progress: Callable[[Epoch], None] | None = None


@dataclass(frozen=True)
class ModelInfo:
    """A model that a task offers. parameters: for samples of its generated data; multiply_adds: for one sample, of
    sample_bytes. None where nobody has counted."""

    architecture: str
    parameters: int | None = None
    multiply_adds: int | None = None
    sample_bytes: int | None = None


@dataclass(frozen=True)
class Baseline:
    """A classical model fitted on the same features and the same split. beside: as `Dataset.beside`."""

    name: str
    metrics: Mapping[str, float]
    beside: Mapping[str, Mapping[str, float]] = field(default_factory=dict)


class Task(Protocol):
    """A task. Stateless: everything it needs comes in as an argument."""

    name: str
    scenario: str
    metric: str
    """The key of `score` that models are compared by; larger is better."""
    models: Mapping[Size, ModelInfo]
    """What `fit` can make."""
    loss: Loss | UserLoss
    """Of the model's outputs, when its devices learn it on. With one of its own they need Keras to learn: the runtimes
    `keras` and `torch`. A task without any cannot be learned federatedly."""

    def sources(self) -> Sequence[DataSource]:
        """The layouts that `load` finds, the preferred one first. A task without it is listed without."""
        ...

    def load(self, data: Path | None, *, seed: int) -> Dataset:
        """The data set found under `data`, or a generated one where `data` is None.

        Raises DataError with what is missing, from whom it can be had, and where to put it.
        """
        ...

    def fit(self, size: Size, dataset: Dataset, options: FitOptions) -> keras.Model | torch.nn.Module:
        """Train on `dataset.train`, keep what is best on `dataset.valid`, never look at `dataset.test`.

        The model takes raw samples [batch, *shape] (it normalises inside) and gives float32 outputs [batch, output]. A
        Keras model runs as LiteRT or Keras, a torch module as ONNX.
        """
        ...

    def score(self, outputs: NDArray[np.float32], labels: NDArray[np.float32]) -> dict[str, float]:
        """Metrics of outputs [sample, output] against labels [sample, label]; NaN where undefined."""
        ...

    def right(self, outputs: NDArray[np.float32], labels: NDArray[np.float32]) -> NDArray[np.float32]:
        """Which decisions are right [sample]: 1, wrong: 0, NaN where the label does not tell. A task without it has no
        part in the quality of a joint decision."""
        ...

    def intervals(
        self,
        outputs: NDArray[np.float32],
        labels: NDArray[np.float32],
        *,
        seed: int,
        group: NDArray[np.int64] | None = None,
    ) -> dict[str, tuple[float, float]]:
        """95 % bootstrap intervals of the same metrics; with `group` [sample] whole groups are drawn, not samples."""
        ...

    def baseline(self, dataset: Dataset, *, seed: int) -> Baseline:
        """Fit the classical model on `dataset.train`, score it on `dataset.test`."""
        ...
