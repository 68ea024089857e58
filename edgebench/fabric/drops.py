"""Samples that are dropped, whoever does so and however often they come."""

from __future__ import annotations

import threading

from edgebench.core.samples import SampleKey
from edgebench.core.tallies import Tally

_REMEMBERED = 100_000


class DroppedOnce:
    """Counts samples that are dropped for a reason: each once, though it may come again and be dropped again. The last
    100,000 are remembered. From any thread."""

    def __init__(self, tally: Tally, reason: str) -> None:
        self._tally = tally
        self._reason = reason
        self._counted: dict[SampleKey, None] = {}
        self._lock = threading.Lock()

    def drop(self, key: SampleKey) -> None:
        """Count a sample, unless it was before."""
        with self._lock:
            if key in self._counted:
                return
            self._counted[key] = None
            if len(self._counted) > _REMEMBERED:
                del self._counted[next(iter(self._counted))]
            self._tally.drop(self._reason)
