"""The one place where the time is read.

Every time stamp of a run is `now_ns()`: nanoseconds of the machine's monotonic clock, which all
processes of one machine share. Wall time serves only to name things.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime

NS_PER_S = 1_000_000_000
NS_PER_MS = 1_000_000

now_ns = time.monotonic_ns
sleep_s = time.sleep


def now_s() -> float:
    """Seconds of the same clock as `now_ns`."""
    return time.monotonic_ns() / NS_PER_S


def utc_now() -> datetime:
    """Wall time in UTC, for names and reports; never for measuring."""
    return datetime.now(UTC)
