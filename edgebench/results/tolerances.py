"""By how much a run may miss what it should have been; docs/results.md gives the reason for each."""

from __future__ import annotations

SLIP_LIMIT_MS = 25.0
SLIP_LIMIT_OF_DEADLINE = 0.05
SLIP_SHARE = 0.05
SLIP_LEAST_SAMPLES = 5
FULL_BUSY = 0.97
FULL_SHARE = 0.5
WAITING_SLIP_P95_MS = 16.0
STOLEN_SHARE = 0.10
LINK_SHARE = 0.10
LINK_LATENCY_MS = 1.0
LINK_JITTER_SHARE = 0.25
MOST_LINKS_NAMED = 5
MOST_NODES_NAMED = 5
EMULATION_LATE_SHARE = 0.01
EMULATION_LEAST_LATE = 5
EMULATION_CHANCE = 0.001
EMULATION_SLIP_SHARE = 0.02
"""Of what all nodes released that are emulated as the same at most this share may be late; of one of them no more than
it would be with this chance if that share were late. The mean slip of each may be the last of what it took, or of the
least mean latency of what passes it, shared among the times that it holds a decision up."""
LATE_MS = 1.0
WORST_LATE_MS = 5.0
FOREIGN_SHARE = 0.10
"""A second is disturbed when timers were late, those of all parts by `LATE_MS` on average or those of the worst part
that samples pass by `WORST_LATE_MS`, while others took `FOREIGN_SHARE` of the cores that the run may use. The worst,
since one part may decide for forty that idle; five times the other, since a busy part is late by its own work, too."""
DISTURBED_SHARE = 0.25
P50_DIFFERENCE = 0.10
P99_DIFFERENCE = 0.25
THROUGHPUT_DIFFERENCE = 0.10
LEAST_DIFFERENCE_MS = 1.0
HOP_BOUND_MS = 0.5
HOP_BOUND_SHARE = 0.05
"""A figure of a hop between machines is given where it is known to within either."""
UNUSUAL_PPM = 100.0
"""A quartz clock is off by some 20 ppm, of a cheap board and far from room temperature by up to 100."""
ROLLOUT_S = 5.0
"""A model that is announced later than this before the end of the streams, or before the next model, need not have been
taken up any more."""


def slip_limit_ms(deadline_ms: float | None) -> float:
    """How late a sample may be taken before it counts as slipped."""
    return max(SLIP_LIMIT_MS, SLIP_LIMIT_OF_DEADLINE * (deadline_ms or 0.0))
