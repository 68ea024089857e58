"""Training with early stopping on people who are not in it."""

from __future__ import annotations

from dataclasses import dataclass

import keras
import numpy as np
from numpy.typing import NDArray

from edgebench.seeds import rng_for, seed_for
from edgebench.tasks.faces.labels import PERSON, face_metrics
from edgebench.tasks.faces.losses import Directions, angular_margin, semi_hard_triplets
from edgebench.tasks.faces.models import Backbone, Heavy, backbone_of, build
from edgebench.tasks.faces.pictures import varied
from edgebench.tasks.fitting import EarlyStopping, first_groups, keep_best
from edgebench.tasks.models import outputs_of
from edgebench.tasks.task import Dataset, FitOptions, Size


@dataclass(frozen=True)
class Recipe:
    """How a network is trained. margin, scale: of its loss; settle, patience: as in `EarlyStopping`."""

    batch: int
    learning_rate: float
    epochs: int
    settle: int
    patience: int
    margin: float
    scale: float = 16.0
    epoch_samples: int = 600
    """An epoch shows so many pictures, each of them varied anew."""


RECIPES: dict[Backbone, Recipe] = {
    "mobilefacenet": Recipe(batch=60, learning_rate=3e-3, epochs=24, settle=10, patience=8, margin=1.4),
    "sphereface": Recipe(batch=60, learning_rate=2e-3, epochs=24, settle=10, patience=8, margin=1.4),
    "facenet": Recipe(batch=60, learning_rate=2e-3, epochs=24, settle=10, patience=8, margin=0.5),
    "sphereface-20": Recipe(batch=32, learning_rate=3e-4, epochs=20, settle=1, patience=5, margin=1.4),
}

PICTURES_OF_EACH = 5
"""Of each person in a batch, where triplets are formed."""


def fit(
    size: Size,
    heavy: Heavy,
    dataset: Dataset,
    options: FitOptions,
) -> keras.Model:
    """See `Task.fit`; the weights returned are those with the best AUC on `dataset.valid`."""
    backbone = backbone_of(size, heavy)
    recipe = RECIPES[backbone]
    keras.utils.set_random_seed(seed_for(options.seed, "fit", backbone) % 2**32)
    train = first_groups(dataset.train, options.examples, seed=options.seed)
    names, person = np.unique(train.y[:, PERSON], return_inverse=True)
    model = build(backbone, train.x.shape[1:])
    trainee = _trainee(model, backbone, recipe, people=len(names))

    def train_epoch(epoch: int) -> float:
        rng = rng_for(options.seed, "epoch", epoch)
        optimiser.learning_rate = _learning_rate(recipe, epoch, how.epochs)
        rows = _in_groups(person, recipe, rng) if backbone == "facenet" else _in_turn(len(train), recipe, rng)
        shown = varied(train.x[rows], rng)
        ran = trainee.fit(shown, person[rows], batch_size=recipe.batch, shuffle=False, verbose=0)
        return float(ran.history["loss"][-1])

    def quality() -> float:
        return face_metrics(outputs_of(model, dataset.valid.x), dataset.valid.y)["auc"]

    how = EarlyStopping(options.epochs or recipe.epochs, recipe.settle, recipe.patience)
    optimiser = trainee.optimizer
    keep_best(model, how, train_epoch=train_epoch, quality=quality, progress=options.progress)
    return model


def _trainee(model: keras.Model, backbone: Backbone, recipe: Recipe, *, people: int) -> keras.Model:
    """The model with what it needs for its training only."""
    optimiser = keras.optimizers.AdamW(recipe.learning_rate, weight_decay=1e-2, clipnorm=1.0)
    if backbone == "facenet":
        model.compile(optimiser, semi_hard_triplets(recipe.margin), jit_compile=False)
        return model
    cosines = Directions(people, name="directions")(model.outputs[0])
    trainee = keras.Model(model.inputs, cosines)
    trainee.compile(optimiser, angular_margin(recipe.margin, recipe.scale), jit_compile=False)
    return trainee


def _learning_rate(recipe: Recipe, epoch: int, epochs: int) -> float:
    """From the recipe's down to nothing, along a half wave."""
    return float(recipe.learning_rate * (1 + np.cos(np.pi * (epoch - 1) / epochs)) / 2)


def _in_turn(samples: int, recipe: Recipe, rng: np.random.Generator) -> NDArray[np.int64]:
    turns = -(-recipe.epoch_samples // samples)
    return np.concatenate([rng.permutation(samples) for _ in range(turns)])[: recipe.epoch_samples]


def _in_groups(person: NDArray[np.int64], recipe: Recipe, rng: np.random.Generator) -> NDArray[np.int64]:
    """Rows of batches that hold `PICTURES_OF_EACH` of each of their people, of whoever has two or more."""
    counts = np.bincount(person)
    several = np.flatnonzero(counts > 1)
    starts, order = np.cumsum(counts) - counts, np.argsort(person, kind="stable")
    at_once = min(recipe.batch // PICTURES_OF_EACH, len(several))
    batches = max(recipe.epoch_samples // (at_once * PICTURES_OF_EACH), 1)
    rows = []
    for _ in range(batches):
        chosen = rng.permutation(several)[:at_once]
        picked = rng.random((at_once, PICTURES_OF_EACH)) * counts[chosen][:, None]
        rows.append(order[starts[chosen][:, None] + picked.astype(np.int64)].reshape(-1))
    return np.concatenate(rows)
