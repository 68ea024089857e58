"""Training of a plain torch module, as a task of one's own may bring it."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from edgebench.seeds import rng_for
from edgebench.tasks.task import Split


class ModuleTraining:
    """A module of logits that learns by Adam; `keep_best` reads and writes its weights.

    whole: the module with the sigmoid or softmax at its end, which gives probabilities.
    """

    def __init__(
        self,
        module: torch.nn.Module,
        train: Split,
        *,
        classes: int,
        batch_size: int,
        learning_rate: float,
        seed: int,
    ) -> None:
        # Its threads spin while they wait for each other, which beside streams costs minutes where one takes seconds.
        torch.set_num_threads(1)
        self._module = module
        self._train = train
        self._classes = classes
        self._batch_size = batch_size
        self._seed = seed
        self._optimiser = torch.optim.Adam(module.parameters(), lr=learning_rate)
        self.whole = torch.nn.Sequential(module, torch.nn.Sigmoid() if classes == 2 else torch.nn.Softmax(dim=-1))

    def get_weights(self) -> list[Any]:
        """Copies of them."""
        return [value.detach().clone() for value in self._module.state_dict().values()]

    def set_weights(self, weights: list[Any]) -> None:
        """Load them again."""
        self._module.load_state_dict(dict(zip(self._module.state_dict(), weights, strict=True)))

    def train_epoch(self, epoch: int) -> float:
        """Train epoch n = 1, 2, …; gives its mean loss."""
        self._module.train()
        rows = rng_for(self._seed, "epoch", epoch).permutation(len(self._train))
        losses, seen = [], 0
        for start in range(0, len(rows), self._batch_size):
            batch = rows[start : start + self._batch_size]
            if len(batch) == 1 and start:
                break  # of a single sample nothing can be normalised
            logits = self._module(torch.from_numpy(np.ascontiguousarray(self._train.x[batch])))
            loss = _loss(logits, torch.from_numpy(self._train.y[batch]), self._classes)
            self._optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            self._optimiser.step()
            seen += len(batch)
            losses.append(float(loss.detach()) * len(batch))
        return sum(losses) / seen

    def outputs(self, x: NDArray[Any], chunk: int = 512) -> NDArray[np.float32]:
        """Probabilities float32 [sample, output] of samples [sample, *shape]; leaves the module in evaluation."""
        self.whole.eval()
        with torch.no_grad():
            found = [
                self.whole(torch.from_numpy(np.ascontiguousarray(x[i : i + chunk]))) for i in range(0, len(x), chunk)
            ]
        return torch.cat(found).numpy()


def _loss(logits: torch.Tensor, labels: torch.Tensor, classes: int) -> torch.Tensor:
    if classes == 2:
        return torch.nn.functional.binary_cross_entropy_with_logits(logits, labels)
    return torch.nn.functional.cross_entropy(logits, labels[:, 0].long())
