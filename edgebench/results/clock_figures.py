"""What a machine's clock did while samples were due."""

from __future__ import annotations

import math

import numpy as np

from edgebench.clock import NS_PER_MS, NS_PER_S
from edgebench.core.clocks import Irregularity
from edgebench.results import stats
from edgebench.results.chunks import ms
from edgebench.results.clock_tracks import ClockTrack
from edgebench.results.figures import ClockFigures
from edgebench.results.observations import Observations
from edgebench.results.tolerances import UNUSUAL_PPM

_MOST_LOOKED_AT = 100_000
_EACH_NS = 100 * NS_PER_MS


def clock_figures(clock: ClockTrack, observations: Observations) -> ClockFigures:
    """From the start of the streams to their end; of a run without, from the first exchange to the last."""
    if not clock.exchanges:
        return ClockFigures(None, None, None, None, 0, [], [])
    from_ns, to_ns = _own_times(clock, observations)
    count = min(_MOST_LOOKED_AT, max(2, (to_ns - from_ns) // _EACH_NS))
    offset_ns, bound_ns = clock.at(np.linspace(from_ns, to_ns, count).astype(np.int64))
    drift_ppm, drift_bound_ppm = clock.drift_ppm(clock.first_ns, clock.last_ns)
    found = [each for each in clock.irregularities if each.until_ns > from_ns and each.after_ns < to_ns]
    unusual = [_changed(each, clock, from_ns) for each in found if each.kind == "drift"]
    if abs(drift_ppm) - drift_bound_ppm > UNUSUAL_PPM:
        unusual.append(f"drifted by {drift_ppm:,.0f} ppm (up to {UNUSUAL_PPM:.0f} are usual)")
    return ClockFigures(
        # The machine is ahead by what the server lacks.
        offset_ms=stats.rounded(ms(-int(offset_ns[0]))),
        bound_ms=stats.rounded(ms(int(bound_ns.max()))),
        drift_ppm=stats.rounded(drift_ppm) if math.isfinite(drift_bound_ppm) else None,
        drift_bound_ppm=stats.rounded(drift_bound_ppm) if math.isfinite(drift_bound_ppm) else None,
        exchanges=clock.exchanges,
        jumped=[_jumped(each, from_ns) for each in found if each.kind == "step"],
        unusual=unusual,
    )


def _own_times(clock: ClockTrack, observations: Observations) -> tuple[int, int]:
    started_ns, ended_ns = observations.started_ns, observations.ended_ns
    first_ns, last_ns = clock.first_ns, clock.last_ns
    from_ns = first_ns if started_ns is None else clock.own_at(started_ns)
    return from_ns, max(from_ns, last_ns if ended_ns is None else clock.own_at(ended_ns))


def _jumped(step: Irregularity, start_ns: int) -> str:
    # What the server gained, the machine has lost.
    way = "back" if step.by_ns > 0 else "forward"
    return f"jumped {way} by {abs(ms(step.by_ns)):,.1f} ms {_when(step, start_ns)}"


def _changed(change: Irregularity, clock: ClockTrack, start_ns: int) -> str:
    before, after = (
        f"{drift_ppm:,.0f} ± {bound_ppm:,.0f} ppm" if math.isfinite(bound_ppm) else "an unknown rate"
        for drift_ppm, bound_ppm in (
            clock.drift_ppm(clock.first_ns, change.after_ns),
            clock.drift_ppm(change.until_ns, clock.last_ns),
        )
    )
    return f"drifted by {before}, and by {after} later; it changed {_when(change, start_ns)}"


def _when(what: Irregularity, start_ns: int) -> str:
    after_s, until_s = ((at_ns - start_ns) / NS_PER_S for at_ns in (what.after_ns, what.until_ns))
    return f"between {after_s:.1f} and {until_s:.1f} s"
