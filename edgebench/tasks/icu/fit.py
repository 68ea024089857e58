"""Training with early stopping on the validation split."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import keras
import numpy as np
from numpy.typing import NDArray

from edgebench.seeds import rng_for, seed_for
from edgebench.tasks.icu.models import PublishedShape, build, outputs_of
from edgebench.tasks.metrics import binary_metrics
from edgebench.tasks.task import Dataset, Epoch, Size, Split

Progress = Callable[[Epoch], None]


@dataclass(frozen=True)
class Recipe:
    """How one size is trained.

    Weights are kept from epoch `settle` on (or the last, of a shorter training): before it, members still guess, and
    a small validation split can favour a guess. `patience` counts epochs without a better AUROC on it.
    """

    batch: int
    learning_rate: float
    settle: int
    patience: int


RECIPES: dict[Size, Recipe] = {
    "light": Recipe(batch=32, learning_rate=3e-3, settle=3, patience=2),
    "heavy": Recipe(batch=64, learning_rate=3e-3, settle=3, patience=2),
    "published": Recipe(batch=32, learning_rate=1e-3, settle=1, patience=2),
}

_SEEN = 24_000
_EPOCHS = (3, 6)


def default_epochs(samples: int) -> int:
    """Epochs that show about 24,000 samples, but at least 3 and at most 6: beyond, the members learn by heart."""
    least, most = _EPOCHS
    return min(max(round(_SEEN / samples), least), most)


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
    network = build(size, shape, train)
    members = network.trainee.output_shape[1]
    optimiser = keras.optimizers.Adam(recipe.learning_rate, clipnorm=1.0)
    # Compiling a recurrent step with XLA takes longer than the whole training.
    network.trainee.compile(optimiser, "binary_crossentropy", jit_compile=False)
    planned = default_epochs(len(train)) if epochs is None else epochs
    keeper = _KeepBest(network.model, dataset.valid, planned, recipe, progress)
    network.trainee.fit(
        train.x,
        np.repeat(train.y, members, axis=1),
        batch_size=recipe.batch,
        epochs=planned,
        verbose=0,
        callbacks=[keeper],
    )
    if keeper.weights is not None:
        network.model.set_weights(keeper.weights)
    return network.model


def first_groups(split: Split, examples: int | None, *, seed: int) -> Split:
    """The samples of the first `examples` groups after a seeded shuffle; all of them where `examples` is None."""
    if examples is None:
        return split
    groups = rng_for(seed, "examples").permutation(np.unique(split.group))[:examples]
    rows = np.flatnonzero(np.isin(split.group, groups))
    return Split(x=split.x[rows], y=split.y[rows], group=split.group[rows])


class _KeepBest(keras.callbacks.Callback):
    """Keeps the weights of the best epoch, and ends a training that has stopped improving."""

    def __init__(self, kept: keras.Model, valid: Split, epochs: int, recipe: Recipe, progress: Progress | None) -> None:
        super().__init__()
        self._kept, self._valid, self._epochs, self._recipe, self._progress = kept, valid, epochs, recipe, progress
        self._best = -np.inf
        self._best_epoch = 0
        self.weights: list[NDArray[np.float32]] | None = None

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        number = epoch + 1
        quality = binary_metrics(outputs_of(self._kept, self._valid.x), self._valid.y)["auroc"]
        if number >= min(self._recipe.settle, self._epochs) and quality > self._best:
            self._best, self._best_epoch, self.weights = quality, number, self._kept.get_weights()
        if self._progress is not None:
            loss = float((logs or {}).get("loss", np.nan))
            self._progress(Epoch(epoch=number, epochs=self._epochs, loss=loss, quality=quality))
        if self.weights is not None and number - self._best_epoch >= self._recipe.patience:
            self.model.stop_training = True
