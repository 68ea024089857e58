"""From what was measured to the distribution that a profile holds."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from edgebench.errors import FabricError
from edgebench.topology.profiles import Times

MOST_KEPT = 200
_DIGITS = 5


def times_of(measured_ns: Sequence[float]) -> Times:
    """The means of equal shares of what was measured, ascending; all of it where that is not much. At least one."""
    ordered = np.sort(np.asarray(measured_ns, np.float64)) / 1e3
    count, kept = len(ordered), min(len(ordered), MOST_KEPT)
    # A measurement on the border of two shares counts in both, by the part of it that lies there.
    sums = np.interp(
        np.linspace(0.0, count, kept + 1), np.arange(count + 1), np.concatenate(([0.0], np.cumsum(ordered)))
    )
    # Sums have an error: of shares that are all but equal one may be a last digit below the one before.
    means = np.sort(np.diff(sums)) * kept / count
    return Times(count, tuple(float(f"{mean:.{_DIGITS}g}") for mean in means))


def rest_of(whole_ns: Sequence[float], part_ns: Sequence[float]) -> Times:
    """What wholes take beside a part of theirs that was measured apart, and does not depend on it.

    Drawn each by itself, the two have the mean and the variance that the wholes have; but no rest is less than 0, and
    on average it is no less than what the quicker halves differ by: other work of the machine, which makes slow, may
    have met the parts alone. Raises FabricError where a part takes longer than its whole even so.
    """
    whole, part = np.asarray(whole_ns, np.float64), np.asarray(part_ns, np.float64)
    mean = max(float(whole.mean() - part.mean()), _quick(whole) - _quick(part))
    if mean <= 0:
        raise FabricError("the machine did other work, so what messages take cannot be told (free it, measure again)")
    spread = float(np.sqrt(max(0.0, 1.0 - part.var() / whole.var()))) if whole.var() else 0.0
    rest = np.maximum(mean + spread * (whole - whole.mean()), 0.0)
    return times_of((rest * mean / rest.mean()).tolist())


def _quick(values: NDArray[np.float64]) -> float:
    """The mean of the quicker half."""
    return float(np.sort(values)[: (len(values) + 1) // 2].mean())
