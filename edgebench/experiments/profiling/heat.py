"""Whether a machine gets slower while it works."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from edgebench.experiments.profiling.model_child import SLICES, Timed
from edgebench.topology.profiles import Sustained

_ZONES = "/sys/class/thermal"
_TENTH = SLICES // 10
_SLOWER = 1.05


def hottest_c() -> float | None:
    """The highest temperature that the machine tells, °C; None where it tells none."""
    found = []
    for zone in Path(_ZONES).glob("thermal_zone*/temp"):
        try:
            found.append(int(zone.read_text()) / 1000)
        except (OSError, ValueError):
            continue  # a zone without a sensor
    return max(found, default=None)


def sustained_of(found: Sequence[Timed], load_s: float, hottest: float | None) -> Sustained | None:
    """From what all cores found; None where that says nothing."""
    by_slice = [
        [median for each in found if (median := each.medians_ns[number]) is not None] for number in range(SLICES)
    ]
    known = [(number, float(np.mean(medians))) for number, medians in enumerate(by_slice) if medians]
    if len(known) < 2 * _TENTH:
        return None
    first, last = (float(np.mean([median for _, median in part])) for part in (known[:_TENTH], known[-_TENTH:]))
    quick = [number for number, median in known if median <= _SLOWER * first]
    lasting = next((number for number, _ in known if number > max(quick)), None)
    return Sustained(
        load_s=load_s,
        slowdown=round(last / first, 3),
        from_s=None if lasting is None else lasting * load_s / SLICES,
        hottest_c=None if hottest is None else round(hottest, 1),
    )
