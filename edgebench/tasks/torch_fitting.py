"""Training of a plain torch module, as a task of one's own may bring it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from edgebench.seeds import rng_for
from edgebench.tasks.fitting import Patience, keep_best
from edgebench.tasks.task import Epoch, Split

if TYPE_CHECKING:
    from edgebench.tasks.classifier import Classifier


class _Weights:
    """A module's weights, as `keep_best` reads and writes them."""

    def __init__(self, module: torch.nn.Module) -> None:
        self._module = module

    def get_weights(self) -> list[Any]:
        """Copies of them."""
        return [value.detach().clone() for value in self._module.state_dict().values()]

    def set_weights(self, weights: list[Any]) -> None:
        """Load them again."""
        self._module.load_state_dict(dict(zip(self._module.state_dict(), weights, strict=True)))


def fit_module(
    module: torch.nn.Module,
    task: Classifier,
    train: Split,
    valid: Split,
    how: Patience,
    *,
    seed: int,
    progress: Callable[[Epoch], None] | None,
) -> torch.nn.Module:
    """Train a module of logits by Adam, and return it with the best epoch's weights, giving probabilities."""
    # Its threads spin while they wait for each other, which beside streams costs minutes where one takes seconds.
    torch.set_num_threads(1)
    optimiser = torch.optim.Adam(module.parameters(), lr=task.learning_rate)
    probability = torch.nn.Sigmoid() if task.classes == 2 else torch.nn.Softmax(dim=-1)
    whole = torch.nn.Sequential(module, probability)

    def train_epoch(epoch: int) -> float:
        module.train()
        rows = rng_for(seed, "epoch", epoch).permutation(len(train))
        losses, seen = [], 0
        for start in range(0, len(rows), task.batch_size):
            batch = rows[start : start + task.batch_size]
            if len(batch) == 1 and start:
                break  # of a single sample nothing can be normalised
            logits = module(torch.from_numpy(np.ascontiguousarray(train.x[batch])))
            loss = _loss(logits, torch.from_numpy(train.y[batch]), task.classes)
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            seen += len(batch)
            losses.append(float(loss.detach()) * len(batch))
        return sum(losses) / seen

    def quality() -> float:
        return task.quality(module_outputs(whole, valid.x), valid.y)

    keep_best(_Weights(module), how, train_epoch=train_epoch, quality=quality, progress=progress)
    return whole.eval()


def module_outputs(module: torch.nn.Module, x: NDArray[Any], chunk: int = 512) -> NDArray[np.float32]:
    """Outputs [sample, output] of a module in evaluation."""
    module.eval()
    with torch.no_grad():
        found = [module(torch.from_numpy(np.ascontiguousarray(x[i : i + chunk]))) for i in range(0, len(x), chunk)]
    return torch.cat(found).numpy()


def _loss(logits: torch.Tensor, labels: torch.Tensor, classes: int) -> torch.Tensor:
    if classes == 2:
        return torch.nn.functional.binary_cross_entropy_with_logits(logits, labels)
    return torch.nn.functional.cross_entropy(logits, labels[:, 0].long())
