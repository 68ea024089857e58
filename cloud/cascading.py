"""When an edge is sure enough: the least confidence with which its small model's decision stands."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgebench.fabric.records import Calibration
from edgebench.inference.confidence import confidence

_STEPS = 200
"""Shares of forwarded samples that are tried."""
_BEYOND = 2.0
"""No probability is so great: everything is forwarded."""
ALLOWANCE = 0.005
"""How much less than the cloud's model a cascade may reach, where nothing is asked of it."""


def calibrated(
    light: NDArray[np.float32],
    heavy: NDArray[np.float32],
    quality: Callable[[NDArray[np.float32]], float],
    target: float | None,
) -> Calibration:
    """The cascade that forwards the smallest share of samples and still reaches the target, on held-out data.

    light, heavy: outputs [sample, output] of the two models for the same samples; quality: of such outputs; target: its
    least value, None for that of `heavy` less `ALLOWANCE`. Where no share reaches the target, the best one is taken.
    """
    sure = confidence(light)
    # A decision stands from the threshold on, so samples of equal confidence go one way.
    thresholds = np.unique(np.concatenate([[0.0], np.quantile(sure, np.linspace(0, 1, _STEPS + 1)), [_BEYOND]]))
    alone, above = quality(light), quality(heavy)
    wanted = above - ALLOWANCE if target is None else target
    tried = [(float(threshold), *_cascade(light, heavy, sure >= threshold, quality)) for threshold in thresholds]
    reaching = [each for each in tried if each[2] >= wanted]
    threshold, forwarded, reached = reaching[0] if reaching else max(tried, key=lambda each: each[2])
    return Calibration(
        threshold=threshold,
        target=wanted,
        forwarded=forwarded,
        quality=reached,
        light_quality=alone,
        heavy_quality=above,
    )


def _cascade(
    light: NDArray[np.float32],
    heavy: NDArray[np.float32],
    stands: NDArray[np.bool_],
    quality: Callable[[NDArray[np.float32]], float],
) -> tuple[float, float]:
    """The share that is forwarded, and the quality of what is then decided."""
    mixed: NDArray[Any] = np.where(stands[:, None], light, heavy)
    return float(1 - stands.mean()), quality(mixed)
