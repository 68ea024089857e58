"""How sure a model is of its own output, for models whose outputs are probabilities."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def confidence(outputs: NDArray[np.floating[Any]]) -> NDArray[np.floating[Any]]:
    """The probability of the likeliest answer [sample].

    outputs: [sample, 1], the probability of a yes, or [sample, class], those of the classes.
    """
    if outputs.shape[1] == 1:
        return np.maximum(outputs[:, 0], 1 - outputs[:, 0])
    found: NDArray[np.floating[Any]] = outputs.max(axis=1)
    return found
