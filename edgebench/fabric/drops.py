"""Samples that are dropped, whoever does so and however often they come."""

from __future__ import annotations

import threading

from edgebench.core.samples import SampleKey
from edgebench.core.tallies import Tally
from edgebench.fabric.last_keys import LastKeys


class DroppedOnce:
    """Counts samples that are dropped for a reason: each once, though it may come again and be dropped again. The last
    100,000 are remembered. From any thread."""

    def __init__(self, tally: Tally, reason: str) -> None:
        self._tally = tally
        self._reason = reason
        self._counted = LastKeys()
        self._lock = threading.Lock()

    def drop(self, key: SampleKey) -> None:
        """Count a sample, unless it was before."""
        with self._lock:
            if self._counted.add(key):
                self._tally.drop(self._reason)
