"""How late a timer fires in this process: what the machine does to everything else that runs in it.

A thread wakes up every 20 ms. Wakings that it slept through count as well, each by how late it was, so that a stall
weighs as much as it would for samples due at any moment of it (as jHiccup counts: https://github.com/giltene/jHiccup).
"""

from __future__ import annotations

import threading
from array import array

from edgebench.clock import NS_PER_MS, NS_PER_S, now_ns, sleep_s
from edgebench.fabric.records import Hiccup

PERIOD_NS = 20 * NS_PER_MS
_FIELDS = len(Hiccup.__struct_fields__)


class HiccupLog:
    """Wakings of a timer, by the second of the monotonic clock in which they were due: 32 bytes each, since it may be
    hours until somebody takes them."""

    def __init__(self, period_ns: int = PERIOD_NS) -> None:
        self._period_ns = period_ns
        self._noted = array("q")
        """The fields of a `Hiccup`, second by second."""

    def note(self, due_ns: int, at_ns: int) -> int:
        """A waking was due, and came: when the next one after `at_ns` is due."""
        while due_ns <= at_ns:
            second, late_ns = due_ns // NS_PER_S, at_ns - due_ns
            noted = self._noted
            if not noted or noted[-_FIELDS] != second:
                noted.extend((second, 0, 0, 0))
            noted[-3] = max(noted[-3], late_ns)
            noted[-2] += late_ns
            noted[-1] += 1
            due_ns += self._period_ns
        return due_ns

    def take(self) -> list[Hiccup]:
        """What was noted since the last call; the second that goes on will come in parts."""
        taken, self._noted = self._noted, array("q")
        return [Hiccup(*taken[at : at + _FIELDS]) for at in range(0, len(taken), _FIELDS)]


class HiccupMeter:
    """A thread of this process that notes how late it wakes, from its start to its end."""

    def __init__(self) -> None:
        self._log = HiccupLog()
        self._lock = threading.Lock()
        self._ended = False
        self._thread = threading.Thread(target=self._run, name="hiccups", daemon=True)

    def start(self) -> None:
        """Begin to wake."""
        self._thread.start()

    def take(self) -> list[Hiccup]:
        """What was noted since the last call; from any thread."""
        with self._lock:
            return self._log.take()

    def end(self) -> None:
        """Wake no more; the thread is gone."""
        self._ended = True
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        due_ns = now_ns() + PERIOD_NS
        while not self._ended:
            sleep_s(max(0, due_ns - now_ns()) / NS_PER_S)
            at_ns = now_ns()
            with self._lock:
                due_ns = self._log.note(due_ns, at_ns)
