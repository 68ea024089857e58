"""Training with early stopping on the validation split."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import keras
import numpy as np

from edgebench.seeds import rng_for, seed_for
from edgebench.tasks.icu.models import PublishedShape, build
from edgebench.tasks.metrics import binary_metrics
from edgebench.tasks.task import Dataset, Epoch, Size, Split

Progress = Callable[[Epoch], None]

_PREDICT_BATCH = 512


@dataclass(frozen=True)
class Recipe:
    """How one size is trained; `patience` counts epochs without a better AUROC on the validation split."""

    epochs: int
    batch: int
    learning_rate: float
    patience: int


RECIPES: dict[Size, Recipe] = {
    "light": Recipe(epochs=20, batch=32, learning_rate=3e-3, patience=4),
    "heavy": Recipe(epochs=20, batch=64, learning_rate=1e-3, patience=4),
    "published": Recipe(epochs=20, batch=32, learning_rate=1e-3, patience=4),
}


def fit(
    size: Size,
    shape: PublishedShape,
    dataset: Dataset,
    *,
    seed: int,
    epochs: int | None,
    examples: int | None,
    progress: Progress | None,
) -> keras.Model:
    """See `Task.fit`; the weights returned are those with the best AUROC on `dataset.valid`."""
    recipe = RECIPES[size]
    # Keras draws initial weights, batches and dropout from generators that are global to the process.
    keras.utils.set_random_seed(seed_for(seed, "fit", size) % 2**32)
    train = first_groups(dataset.train, examples, seed=seed)
    share = float(np.clip(train.y.mean(), 0.01, 0.99))
    model = build(size, shape, train.x, prevalence=share)
    model.compile(keras.optimizers.Adam(recipe.learning_rate, clipnorm=1.0), "binary_crossentropy")
    planned = recipe.epochs if epochs is None else epochs
    keeper = _KeepBest(dataset.valid, planned, recipe.patience, progress)
    model.fit(train.x, train.y, batch_size=recipe.batch, epochs=planned, verbose=0, callbacks=[keeper])
    if keeper.weights is not None:
        model.set_weights(keeper.weights)
    return model


def first_groups(split: Split, examples: int | None, *, seed: int) -> Split:
    """The samples of the first `examples` groups after a seeded shuffle; all of them where `examples` is None."""
    if examples is None:
        return split
    groups = rng_for(seed, "examples").permutation(np.unique(split.group))[:examples]
    rows = np.flatnonzero(np.isin(split.group, groups))
    return Split(x=split.x[rows], y=split.y[rows], group=split.group[rows])


class _KeepBest(keras.callbacks.Callback):
    """Keeps the weights of the best epoch, and ends a training that has stopped improving."""

    def __init__(self, valid: Split, epochs: int, patience: int, progress: Progress | None) -> None:
        super().__init__()
        self._valid, self._epochs, self._patience, self._progress = valid, epochs, patience, progress
        self._best = -np.inf
        self._best_epoch = 0
        self.weights: list[np.ndarray] | None = None

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        outputs = self.model.predict(self._valid.x, batch_size=_PREDICT_BATCH, verbose=0)
        quality = binary_metrics(outputs, self._valid.y)["auroc"]
        if quality > self._best:
            self._best, self._best_epoch, self.weights = quality, epoch, self.model.get_weights()
        if self._progress is not None:
            loss = float((logs or {}).get("loss", np.nan))
            self._progress(Epoch(epoch=epoch + 1, epochs=self._epochs, loss=loss, quality=quality))
        if epoch - self._best_epoch >= self._patience:
            self.model.stop_training = True
