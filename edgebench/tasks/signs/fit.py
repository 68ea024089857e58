"""Training with early stopping on the validation split."""

from __future__ import annotations

from dataclasses import dataclass

import keras

from edgebench.seeds import rng_for, seed_for
from edgebench.tasks.fitting import EarlyStopping, first_groups, keep_best
from edgebench.tasks.metrics import class_metrics
from edgebench.tasks.models import outputs_of
from edgebench.tasks.signs.augment import augmented
from edgebench.tasks.signs.capsules import margin_loss
from edgebench.tasks.signs.models import build
from edgebench.tasks.task import Dataset, FitOptions, Size


@dataclass(frozen=True)
class Recipe:
    """How one size is trained; the learning rate falls from what is given to 0, by a cosine."""

    epochs: int
    batch: int
    learning_rate: float


RECIPES: dict[Size, Recipe] = {
    "light": Recipe(epochs=14, batch=32, learning_rate=2e-3),
    "heavy": Recipe(epochs=12, batch=64, learning_rate=3e-3),
    "published": Recipe(epochs=12, batch=64, learning_rate=1e-3),
}
PATIENCE = 8
EPOCH_SAMPLES = 8_000
"""An epoch shows at most so many, drawn anew: the frames of one track repeat themselves."""


def fit(size: Size, dataset: Dataset, options: FitOptions) -> keras.Model:
    """See `Task.fit`; the weights returned are those with the best share of right signs on `dataset.valid`."""
    recipe = RECIPES[size]
    epochs = options.epochs or recipe.epochs
    # Keras draws initial weights and dropout from generators that are global to the process.
    keras.utils.set_random_seed(seed_for(options.seed, "fit", size) % 2**32)
    train = first_groups(dataset.train, options.examples, seed=options.seed)
    network = build(size)
    steps = epochs * -(-min(len(train), EPOCH_SAMPLES) // recipe.batch)
    rate = keras.optimizers.schedules.CosineDecay(recipe.learning_rate, steps)
    loss = "sparse_categorical_crossentropy" if size == "light" else margin_loss
    network.trainee.compile(keras.optimizers.Adam(rate), loss, jit_compile=False)

    def train_epoch(epoch: int) -> float:
        rng = rng_for(options.seed, "epoch", epoch)
        rows = rng.permutation(len(train))[:EPOCH_SAMPLES]
        x = augmented(train.x[rows], rng)
        ran = network.trainee.fit(x, train.y[rows], batch_size=recipe.batch, shuffle=False, verbose=0)
        return float(ran.history["loss"][-1])

    def quality() -> float:
        return class_metrics(outputs_of(network.model, dataset.valid.x), dataset.valid.y)["top1"]

    how = EarlyStopping(epochs, patience=PATIENCE)
    keep_best(network.model, how, train_epoch=train_epoch, quality=quality, progress=options.progress)
    return network.model
