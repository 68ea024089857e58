"""Training with early stopping on the validation split."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import ops

from edgebench.seeds import rng_for, seed_for
from edgebench.tasks.fitting import EarlyStopping, first_groups, keep_best
from edgebench.tasks.lanes.decoding import APART, EMBEDDING, GRID, NEAR, SLOTS, lanes_from
from edgebench.tasks.lanes.evaluation import lane_metrics
from edgebench.tasks.lanes.geometry import LANES, lanes_of, mirrored
from edgebench.tasks.lanes.models import COLUMNS, build
from edgebench.tasks.lanes.targets import anchors, segments
from edgebench.tasks.models import outputs_of
from edgebench.tasks.task import Dataset, FitOptions, Size


@dataclass(frozen=True)
class Recipe:
    """How one size is trained. The learning rate falls to nothing along a cosine over all epochs."""

    epochs: int
    batch: int
    learning_rate: float


RECIPES: dict[Size, Recipe] = {
    "light": Recipe(epochs=16, batch=16, learning_rate=3e-3),
    "heavy": Recipe(epochs=10, batch=16, learning_rate=3e-3),
    "published": Recipe(epochs=10, batch=8, learning_rate=5e-4),
}
_PATIENCE = 4
_LEAST_STEPS = 25
"""A small set is shown several times an epoch, so that an epoch has so many steps."""


def fit(
    size: Size,
    dataset: Dataset,
    options: FitOptions,
) -> keras.Model:
    """See `Task.fit`; the weights returned are those with the best accuracy on `dataset.valid`."""
    recipe = RECIPES[size]
    epochs = options.epochs or recipe.epochs
    keras.utils.set_random_seed(seed_for(options.seed, "fit", size) % 2**32)
    train = first_groups(dataset.train, options.examples, seed=options.seed)
    network = build(size)
    targets, loss = (anchors, anchor_loss) if size == "light" else (segments, segment_loss)
    y = np.stack([targets(train.y), targets(mirrored(train.y))])
    again = max(1, -(-_LEAST_STEPS * recipe.batch // len(train)))
    steps = max(1, again * len(train) // recipe.batch)
    rate = keras.optimizers.schedules.CosineDecay(
        recipe.learning_rate / 10, steps * epochs, warmup_target=recipe.learning_rate, warmup_steps=steps // 2
    )
    network.trainee.compile(keras.optimizers.Adam(rate, clipnorm=5.0), loss, jit_compile=False)
    true = lanes_of(dataset.valid.y)

    def train_epoch(epoch: int) -> float:
        rng = rng_for(options.seed, "epoch", epoch)
        rows = np.concatenate([rng.permutation(len(train)) for _ in range(again)])
        flip = rng.integers(0, 2, len(rows))
        x = train.x[rows]
        x[flip == 1] = x[flip == 1, :, ::-1]
        ran = network.trainee.fit(x, y[flip, rows], batch_size=recipe.batch, shuffle=False, verbose=0)
        return float(ran.history["loss"][-1])

    def quality() -> float:
        return lane_metrics(lanes_from(outputs_of(network.model, dataset.valid.x)), true)["accuracy"]

    how = EarlyStopping(epochs, patience=_PATIENCE)
    keep_best(network.model, how, train_epoch=train_epoch, quality=quality, progress=options.progress)
    return network.model


def anchor_loss(true: Any, outputs: Any) -> Any:
    """Of the light model's trainee: the right columns' cross-entropy, the distance in x, and whether a lane is there.

    true: `targets.anchors`. outputs: log-odds [batch, slot * row * column], x and log-odds of presence
    [batch, slot * row].
    """
    places = SLOTS * GRID[0]
    odds = ops.reshape(outputs[:, : places * COLUMNS], (-1, places, COLUMNS))
    x = outputs[:, places * COLUMNS : places * (COLUMNS + 1)]
    there_odds = outputs[:, places * (COLUMNS + 1) :]
    there = ops.cast(true >= 0, "float32")
    # A place between two columns is shared by them.
    place = ops.expand_dims(true * COLUMNS - 0.5, -1)
    wanted = ops.maximum(0.0, 1.0 - ops.abs(place - ops.arange(COLUMNS, dtype="float32")))
    column = -ops.sum(wanted * ops.log_softmax(odds, axis=-1), axis=-1)
    apart = ops.abs(x - true) * COLUMNS
    known = ops.maximum(ops.sum(there, axis=1), 1.0)
    located = ops.sum(there * (column + apart), axis=1) / known
    told = ops.mean(ops.binary_crossentropy(there, there_odds, from_logits=True), axis=1)
    return located + 4.0 * told


def segment_loss(true: Any, outputs: Any) -> Any:
    """Of a LaneNet: cross-entropy of lane against none, in which lanes weigh more, and the discriminative loss.

    true: `targets.segments`. outputs: as in `decoding`. Source of the discriminative loss: De Brabandere et al. 2017,
    eq. 1 to 3: cells are pulled to within `NEAR` of their lane's mean, means pushed `APART`.
    """
    cells = ops.reshape(outputs, (-1, GRID[0] * GRID[1], 1 + EMBEDDING))
    odds, embedding = cells[:, :, 0], cells[:, :, 1:]
    true = ops.cast(true, "int32")
    lane = ops.cast(true > 0, "float32")
    binary = ops.binary_crossentropy(lane, odds, from_logits=True)
    binary = ops.mean((1.0 + _LANE_WEIGHT * lane) * binary, axis=1)
    member = ops.one_hot(true, LANES + 1, dtype="float32")[:, :, 1:]
    count = ops.sum(member, axis=1)
    there = ops.cast(count > 0, "float32")
    lanes = ops.maximum(ops.sum(there, axis=1), 1.0)
    members = ops.transpose(member, (0, 2, 1))
    mean = ops.matmul(members, embedding) / ops.maximum(ops.expand_dims(count, -1), 1.0)
    own = ops.matmul(member, mean)
    off = ops.sqrt(ops.sum(ops.square(embedding - own), axis=2) + 1e-6)
    pull = ops.expand_dims(ops.square(ops.maximum(0.0, off - NEAR)) * lane, 1)
    pull = ops.sum(ops.matmul(pull, member)[:, 0] / ops.maximum(count, 1.0), axis=1) / lanes
    between = ops.expand_dims(mean, 1) - ops.expand_dims(mean, 2)
    distance = ops.sqrt(ops.sum(ops.square(between), axis=3) + 1e-6)
    pairs = ops.expand_dims(there, 1) * ops.expand_dims(there, 2) * (1.0 - ops.eye(LANES))
    push = ops.sum(pairs * ops.square(ops.maximum(0.0, APART - distance)), axis=(1, 2))
    push = push / ops.maximum(ops.sum(pairs, axis=(1, 2)), 1.0)
    return 4.0 * binary + pull + push


_LANE_WEIGHT = 3.0
