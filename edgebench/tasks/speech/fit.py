"""Training with CTC, augmentation, and early stopping on the validation split."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import ops
from numpy.typing import NDArray

from edgebench.seeds import rng_for, seed_for
from edgebench.tasks.fitting import EarlyStopping, first_groups, keep_best
from edgebench.tasks.models import outputs_of
from edgebench.tasks.speech.audio import lengths
from edgebench.tasks.speech.models import build
from edgebench.tasks.speech.transcripts import ALPHABET, BLANK, greedy, speech_metrics
from edgebench.tasks.task import Dataset, FitOptions, Size

_LATEST = 0.3
"""A sound begins in this share of its window."""
_NOISE = (0.002, 0.1)
"""Least and greatest noise, relative to the sound over its window."""
_AT_ONCE = 2_048
"""Sounds augmented together: those of hours of speech would not fit in memory. A multiple of every batch size."""


@dataclass(frozen=True)
class Recipe:
    """How one size is trained: the learning rate rises for a tenth of the epochs, then falls along half a cosine.

    patience: epochs without a better word accuracy on `valid` after which it stops.
    """

    batch: int
    learning_rate: float
    epochs: int
    patience: int = 8


RECIPES: dict[Size, Recipe] = {
    "light": Recipe(batch=32, learning_rate=4e-3, epochs=36, patience=10),
    "heavy": Recipe(batch=32, learning_rate=4e-3, epochs=18),
    "published": Recipe(batch=16, learning_rate=3e-4, epochs=20),
}


def fit(
    size: Size,
    dataset: Dataset,
    options: FitOptions,
) -> keras.Model:
    """See `Task.fit`; the weights returned are those with the best word accuracy on `dataset.valid`."""
    recipe = RECIPES[size]
    # Keras draws initial weights and dropout from generators that are global to the process.
    keras.utils.set_random_seed(seed_for(options.seed, "fit", size) % 2**32)
    train = first_groups(dataset.train, options.examples, seed=options.seed)
    model = build(size, train.x.shape[1])
    total = options.epochs or recipe.epochs
    turns = total * -(-len(train) // recipe.batch)
    rising = max(1, turns // 10)
    rate = keras.optimizers.schedules.CosineDecay(
        recipe.learning_rate / 10, max(1, turns - rising), warmup_target=recipe.learning_rate, warmup_steps=rising
    )
    model.compile(keras.optimizers.Adam(rate, clipnorm=1.0), ctc, jit_compile=False)

    def train_epoch(epoch: int) -> float:
        rng = rng_for(options.seed, "epoch", epoch)
        rows = rng.permutation(len(train))
        lost = 0.0
        for part in np.split(rows, range(_AT_ONCE, len(rows), _AT_ONCE)):
            x = augmented(train.x[part], rng)
            ran = model.fit(x, train.y[part], batch_size=recipe.batch, shuffle=False, verbose=0)
            lost += len(part) * float(ran.history["loss"][-1])
        return lost / len(rows)

    def quality() -> float:
        return speech_metrics(greedy(outputs_of(model, dataset.valid.x)), dataset.valid.y)["word_accuracy"]

    how = EarlyStopping(total, patience=recipe.patience)
    keep_best(model, how, train_epoch=train_epoch, quality=quality, progress=options.progress)
    return model


def ctc(labels: Any, outputs: Any) -> Any:
    """The CTC loss [batch] of log-probabilities [batch, steps * ALPHABET] for labels [batch, character]."""
    steps = outputs.shape[1] // ALPHABET
    by_step = ops.reshape(outputs, (-1, steps, ALPHABET))
    said = ops.sum(ops.cast(labels > BLANK, "int32"), axis=1)
    heard = ops.full_like(said, steps)
    return ops.ctc_loss(ops.cast(ops.maximum(labels, BLANK), "int32"), by_step, said, heard, mask_index=BLANK)


def augmented(x: NDArray[np.int16], rng: np.random.Generator) -> NDArray[np.int16]:
    """The sounds [sample, n] faster or slower, elsewhere in their window, and with noise."""
    count, total = x.shape
    length = lengths(x)
    speed = np.maximum(rng.uniform(0.85, 1.15, count), length / total)
    start = (rng.uniform(0, 1, count) * np.minimum(total - length / speed, _LATEST * total)).astype(int)
    moved = np.zeros((count, total), np.float32)
    # Row by row: most of a window is silence, and is left alone.
    for row, sound, said, pace, first in zip(moved, x, length.tolist(), speed.tolist(), start.tolist(), strict=True):
        place = np.arange(min(max(int((said - 1) / pace), 0), total - first), dtype=np.float32) * np.float32(pace)
        before = place.astype(np.int32)
        earlier = sound[before].astype(np.float32)
        row[first : first + len(place)] = earlier + (sound[before + 1] - earlier) * (place - before)
    level = moved.std(axis=1) * np.exp(rng.uniform(np.log(_NOISE[0]), np.log(_NOISE[1]), count)).astype(np.float32)
    moved += level[:, None] * rng.standard_normal(moved.shape, np.float32)
    return np.clip(moved, -32_768, 32_767, out=moved).astype(np.int16)
