"""Training with early stopping on held-out data, whatever an epoch of a task is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np

from edgebench.seeds import rng_for
from edgebench.tasks.task import Epoch, Split


class HasWeights(Protocol):
    """A model whose weights can be kept."""

    def get_weights(self) -> list[Any]:
        """Copies of its weights."""
        ...

    def set_weights(self, weights: list[Any]) -> None:
        """Make these its weights."""
        ...


@dataclass(frozen=True)
class EarlyStopping:
    """When to stop, and from when on weights are kept.

    settle: the first epoch (or the last, of a shorter training) whose weights may be kept. patience: stop after so many
    epochs without better weights.
    """

    epochs: int
    settle: int = 1
    patience: int = 2


class Judged(NamedTuple):
    """A metric that is shown, and what weights are chosen by, where that metric is too coarse for it."""

    shown: float
    worth: float


def keep_best(
    model: HasWeights,
    how: EarlyStopping,
    *,
    train_epoch: Callable[[int], float],
    quality: Callable[[], float | Judged],
    progress: Callable[[Epoch], None] | None,
    picture: Callable[[], bytes] | None = None,
) -> None:
    """Train the model epoch by epoch, and leave it with its best weights.

    train_epoch: trains epoch n = 1, 2, … and gives its mean loss. quality: of the model as it is, on held-out data;
    larger is better. picture: what `Epoch.picture` shows of the model as it is.
    """
    best, best_epoch, kept = -np.inf, 0, model.get_weights()
    drawn = b""
    for epoch in range(1, how.epochs + 1):
        loss = train_epoch(epoch)
        found = quality()
        shown, worth = found if isinstance(found, Judged) else (found, found)
        # Not `worth > best`: where it is undefined it is NaN, and the latest weights are as good as any.
        if epoch >= min(how.settle, how.epochs) and not worth <= best:
            best, best_epoch, kept = worth, epoch, model.get_weights()
            if picture is not None and progress is not None:
                drawn = picture()
        if progress is not None:
            progress(Epoch(epoch=epoch, epochs=how.epochs, loss=loss, quality=shown, picture=drawn))
        if best_epoch and epoch - best_epoch >= how.patience:
            break
    model.set_weights(kept)


def first_groups(split: Split, examples: int | None, *, seed: int) -> Split:
    """The samples of the first `examples` groups after a seeded shuffle; all of them where `examples` is None."""
    if examples is None:
        return split
    groups = rng_for(seed, "examples").permutation(np.unique(split.group))[:examples]
    return split.rows(np.flatnonzero(np.isin(split.group, groups)))
