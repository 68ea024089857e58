"""Training with early stopping on the validation split."""

from __future__ import annotations

from dataclasses import dataclass

import keras
import numpy as np
from numpy.typing import NDArray

from edgebench.seeds import rng_for, seed_for
from edgebench.tasks.actions.augment import distorted
from edgebench.tasks.actions.models import build
from edgebench.tasks.fitting import EarlyStopping, first_groups, keep_best
from edgebench.tasks.metrics import class_metrics
from edgebench.tasks.models import outputs_of
from edgebench.tasks.task import Dataset, FitOptions, Size


@dataclass(frozen=True)
class Recipe:
    """How one size is trained. settle, patience: as in `EarlyStopping`; late epochs count: the rate falls to zero."""

    epochs: int
    learning_rate: float
    batch: int
    settle: int
    patience: int


RECIPES: dict[Size, Recipe] = {
    "light": Recipe(epochs=24, learning_rate=2e-3, batch=32, settle=16, patience=6),
    "heavy": Recipe(epochs=10, learning_rate=2e-3, batch=32, settle=7, patience=3),
    "published": Recipe(epochs=10, learning_rate=1e-3, batch=32, settle=7, patience=3),
}

EPOCH_SAMPLES = 1_000
"""An epoch shows at least so many: a smaller set is gone through several times, distorted anew each time."""
_LABEL_SMOOTHING = 0.1
_WEIGHT_DECAY = 1e-3
_AT_ONCE = 32


def fit(
    size: Size,
    dataset: Dataset,
    options: FitOptions,
) -> keras.Model:
    """See `Task.fit`; the weights returned are those with the best top-1 accuracy on `dataset.valid`."""
    recipe = RECIPES[size]
    # Keras draws initial weights and dropout from generators that are global to the process.
    keras.utils.set_random_seed(seed_for(options.seed, "fit", size) % 2**32)
    classes = int(dataset.train.y.max()) + 1
    model = build(size, dataset.spec, classes)
    train = first_groups(dataset.train, options.examples, seed=options.seed)
    target = np.eye(classes, dtype=np.float32)[train.y[:, 0].astype(np.int64)]
    batch = min(recipe.batch, len(train))
    steps = -(-max(EPOCH_SAMPLES, len(train)) // batch)
    planned = options.epochs or recipe.epochs
    rate = keras.optimizers.schedules.CosineDecay(recipe.learning_rate, planned * steps)
    optimiser = keras.optimizers.AdamW(rate, weight_decay=_WEIGHT_DECAY, clipnorm=1.0)
    loss = keras.losses.CategoricalCrossentropy(label_smoothing=_LABEL_SMOOTHING)
    model.compile(optimiser, loss, jit_compile=False)

    def train_epoch(epoch: int) -> float:
        rng = rng_for(options.seed, "epoch", epoch)
        model.reset_metrics()
        mean = float("nan")
        for rows in _batches(len(train), batch, steps, rng):
            given = distorted(train.x[rows], rng)
            mean = float(model.train_on_batch(given, target[rows], return_dict=True)["loss"])
        return mean

    def quality() -> float:
        valid = dataset.valid
        # A few at a time: a ResNet's activations take megabytes a frame.
        parts = [outputs_of(model, valid.x[i : i + _AT_ONCE]) for i in range(0, len(valid), _AT_ONCE)]
        return class_metrics(np.concatenate(parts), valid.y)["top1"]

    how = EarlyStopping(planned, recipe.settle, recipe.patience)
    keep_best(model, how, train_epoch=train_epoch, quality=quality, progress=options.progress)
    return model


def _batches(samples: int, batch: int, steps: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Row numbers [step, batch]: one shuffle of all samples after another."""
    shuffles = -(-steps * batch // samples)
    rows = np.concatenate([rng.permutation(samples) for _ in range(shuffles)])
    return rows[: steps * batch].reshape(steps, batch)
