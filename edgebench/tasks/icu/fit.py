"""Training with early stopping on the validation split."""

from __future__ import annotations

from dataclasses import dataclass

import keras
import numpy as np

from edgebench.seeds import rng_for, seed_for
from edgebench.tasks.fitting import EarlyStopping, first_groups, keep_best
from edgebench.tasks.icu.models import PublishedShape, build
from edgebench.tasks.metrics import binary_metrics
from edgebench.tasks.models import outputs_of
from edgebench.tasks.task import Dataset, FitOptions, Size


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

EPOCHS = 6
"""Beyond, the members learn their few positive patients by heart."""
EPOCH_SAMPLES = 4_000
"""An epoch shows at most so many, drawn anew: the hours of one patient repeat themselves."""


def fit(
    size: Size,
    shape: PublishedShape,
    dataset: Dataset,
    options: FitOptions,
) -> keras.Model:
    """See `Task.fit`; the weights returned are those with the best AUROC on `dataset.valid`."""
    recipe = RECIPES[size]
    # Keras draws initial weights and dropout from generators that are global to the process.
    keras.utils.set_random_seed(seed_for(options.seed, "fit", size) % 2**32)
    train = first_groups(dataset.train, options.examples, seed=options.seed)
    network = build(size, shape, train)
    optimiser = keras.optimizers.Adam(recipe.learning_rate, clipnorm=1.0)
    # Compiling a recurrent step with XLA takes longer than the whole training.
    network.trainee.compile(optimiser, "binary_crossentropy", jit_compile=False)
    labels = np.repeat(train.y, network.trainee.output_shape[1], axis=1)

    def train_epoch(epoch: int) -> float:
        rows = rng_for(options.seed, "epoch", epoch).permutation(len(train))[:EPOCH_SAMPLES]
        ran = network.trainee.fit(train.x[rows], labels[rows], batch_size=recipe.batch, shuffle=False, verbose=0)
        return float(ran.history["loss"][-1])

    def quality() -> float:
        return binary_metrics(outputs_of(network.model, dataset.valid.x), dataset.valid.y)["auroc"]

    how = EarlyStopping(options.epochs or EPOCHS, recipe.settle, recipe.patience)
    keep_best(network.model, how, train_epoch=train_epoch, quality=quality, progress=options.progress)
    return network.model
