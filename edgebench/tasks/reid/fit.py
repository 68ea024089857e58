"""Training with early stopping on people who are not in it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import keras
import numpy as np
from keras import layers, ops
from numpy.typing import NDArray

from edgebench.seeds import rng_for, seed_for
from edgebench.tasks.fitting import EarlyStopping, Judged, first_groups, keep_best
from edgebench.tasks.images import png
from edgebench.tasks.models import outputs_of
from edgebench.tasks.reid.dgnet import DGNet, made_grid
from edgebench.tasks.reid.labels import IDENTITY, reid_metrics
from edgebench.tasks.reid.models import build
from edgebench.tasks.reid.pictures import COLOURINGS, recoloured, varied
from edgebench.tasks.task import Dataset, FitOptions, Size, Split
from edgebench.tasks.triplets import hard_triplets


@dataclass(frozen=True)
class Recipe:
    """How a network is trained. people: of a batch, `PICTURES_OF_EACH` of each. settle, patience: see `EarlyStopping`.

    Few people are soon told apart on valid, so weights are kept late, and by mAP, which is the less coarse.
    """

    people: int
    batches: int
    learning_rate: float
    epochs: int
    settle: int
    patience: int


RECIPES: dict[Size, Recipe] = {
    "light": Recipe(people=12, batches=12, learning_rate=3e-3, epochs=16, settle=8, patience=6),
    "heavy": Recipe(people=12, batches=10, learning_rate=2e-3, epochs=8, settle=4, patience=4),
    "published": Recipe(people=8, batches=20, learning_rate=3e-4, epochs=20, settle=5, patience=5),
}
PICTURES_OF_EACH = 4
LABEL_SMOOTHING = 0.1


_CAPTION = (
    "What DG-Net's generator makes of people whom it has not learned from: at the left whose appearance, on top whose "
    "structure, and the two together where they cross."
)
_DRAWN = (5, 8)
"""How many appearances and how many structures the generator's pictures are made of."""


def fit(size: Size, dataset: Dataset, options: FitOptions) -> keras.Model:
    """See `Task.fit`; the weights are those with the best mAP on `dataset.valid`. Heavy is DG-Net's appearance
    encoder, and draws what its generator makes of people of `dataset.valid`."""
    recipe = RECIPES[size]
    keras.utils.set_random_seed(seed_for(options.seed, "fit", size) % 2**32)
    train = first_groups(dataset.train, options.examples, seed=options.seed)
    names, person = np.unique(train.y[:, IDENTITY], return_inverse=True)
    classes = len(names) * len(COLOURINGS)
    model = build(size, train.x.shape[1:])
    dgnet = DGNet(model, train.x.shape[1:], people=classes) if size == "heavy" else None
    trainee = dgnet or _named(model, classes)
    optimiser = keras.optimizers.AdamW(recipe.learning_rate, weight_decay=1e-2, clipnorm=1.0)
    trainee.compile(optimiser, [hard_triplets, _mean_cross_entropy_of_names], jit_compile=False)

    def train_epoch(epoch: int) -> float:
        rng = rng_for(options.seed, "epoch", epoch)
        optimiser.learning_rate = recipe.learning_rate * (1 + np.cos(np.pi * (epoch - 1) / how.epochs)) / 2
        batch = _batches(person, recipe, rng)
        shown = varied(recoloured(train.x[batch.row], batch.colouring), rng)
        number = batch.person * len(COLOURINGS) + batch.colouring
        taken: Any = shown if dgnet is None else [shown, batch.same, batch.other, number]
        at_once = recipe.people * PICTURES_OF_EACH
        ran = trainee.fit(taken, [number, number], batch_size=at_once, shuffle=False, verbose=0)
        return float(ran.history["loss"][-1])

    def quality() -> Judged:
        found = reid_metrics(outputs_of(model, dataset.valid.x), dataset.valid.y)
        return Judged(shown=found["rank1"], worth=found["map"])

    how = EarlyStopping(options.epochs or recipe.epochs, recipe.settle, recipe.patience)
    drawn = None if dgnet is None else partial(_drawn, dgnet, dataset.valid, options.seed)
    # All of it, so that of DG-Net the generator fits the encoder that is kept.
    keep_best(trainee, how, train_epoch=train_epoch, quality=quality, progress=options.progress, picture=drawn)
    return model


def _drawn(dgnet: DGNet, split: Split, seed: int) -> bytes:
    """A PNG of `made_grid` of people whom the network has not learned from, as many different ones as there are."""
    rows, columns = _DRAWN
    rng = rng_for(seed, "drawn")
    people = np.resize(rng.permutation(np.unique(split.group)), rows + columns)
    shown = split.x[[rng.choice(np.flatnonzero(split.group == who)) for who in people]]
    return png(made_grid(dgnet, shown[:rows], shown[rows:]), _CAPTION)


def _mean_cross_entropy_of_names(person: Any, logits: Any) -> Any:
    classes = logits.shape[-1]
    target = ops.one_hot(ops.cast(ops.reshape(person, (-1,)), "int32"), classes)
    return keras.losses.categorical_crossentropy(target, logits, from_logits=True, label_smoothing=LABEL_SMOOTHING)


def _named(model: keras.Model, classes: int) -> keras.Model:
    """The model with what names its people, for training only."""
    logits = layers.Dense(classes, use_bias=False, name="people")(model.get_layer("centre").output)
    return keras.Model(model.inputs, [model.outputs[0], logits])


@dataclass(frozen=True)
class _Batches:
    """row, person, colouring: of each picture shown; same, other: the place in its batch of another picture of the same
    person, and of one of somebody else."""

    row: NDArray[np.int64]
    person: NDArray[np.int64]
    colouring: NDArray[np.int64]
    same: NDArray[np.int32]
    other: NDArray[np.int32]


def _batches(person: NDArray[np.int64], recipe: Recipe, rng: np.random.Generator) -> _Batches:
    """An epoch of batches of `recipe.people` people, each in a colouring, `PICTURES_OF_EACH` of each."""
    counts = np.bincount(person)
    starts, order = np.cumsum(counts) - counts, np.argsort(person, kind="stable")
    kinds = len(counts) * len(COLOURINGS)
    chosen = np.concatenate([rng.permutation(kinds)[np.arange(recipe.people) % kinds] for _ in range(recipe.batches)])
    who, colouring = np.divmod(np.repeat(chosen, PICTURES_OF_EACH), len(COLOURINGS))
    row = order[starts[who] + (rng.random(len(who)) * counts[who]).astype(np.int64)]
    at_once = recipe.people * PICTURES_OF_EACH
    place = np.arange(at_once)
    first = place - place % PICTURES_OF_EACH
    same = first + (place + 1) % PICTURES_OF_EACH
    other = (place + PICTURES_OF_EACH) % at_once
    return _Batches(
        row,
        who,
        colouring,
        np.tile(same, recipe.batches).astype(np.int32),
        np.tile(other, recipe.batches).astype(np.int32),
    )
