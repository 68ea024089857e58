"""Sensors that are really there: a feed brings readings as they come, and a stream takes the newest when one is due.

A feed is read once in a process, however many of its nodes and workloads have it; each of them fits its readings into
its task's samples. A reading is sensed again where no newer one has come: `Reading.taken_ns` tells how old it is. A
feed that has ended gives nothing any more.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, Protocol

from numpy.typing import NDArray

from edgebench.clock import NS_PER_S, now_ns
from edgebench.core.samples import NothingSensedError, Reading
from edgebench.errors import EdgebenchError, describe_error
from edgebench.inference.spec import TensorSpec

_log = logging.getLogger(__name__)
_CLOSE_S = 2.0
_COMPLAIN_EVERY = 1000
_SOON_NS = 90 * NS_PER_S

Taken = tuple[Any, int]
"""A reading, and when it was taken: ns of this machine's clock."""


class ReadingError(EdgebenchError):
    """A single reading that is none of what its task takes."""


class Fitting(Protocol):
    """From readings to samples."""

    def take(self, reading: Any) -> Any | None:
        """What to keep of a reading until it is sensed; None where it makes no sample yet. Raises ReadingError."""
        ...

    def sample(self, kept: Any) -> NDArray[Any]:
        """The sample [*shape]."""
        ...


class LiveSensor:
    """What one node senses for one workload."""

    def __init__(self, about: str, spec: TensorSpec, fitting: Fitting) -> None:
        """about: what is read, for people. spec: of a sample."""
        self.dtype = spec.dtype
        self.shape = spec.shape
        self.about = about
        self.complaint = ""
        """What was wrong with the last reading that could not be used."""
        self.on_first: Callable[[], None] | None = None
        """Called once, by whoever reads, when there is something to sense."""
        self.has_ended = False
        self._fitting = fitting
        self._newest: Taken | None = None
        self._unusable = 0
        self._fitted_ns: int | None = None
        self._longest_ns = _SOON_NS
        """When the last reading came that could be used, and how long at most one takes to come."""

    @property
    def is_filling(self) -> bool:
        """Whether the first sample is on its way: it takes several readings, the last of which came not long ago."""
        fitted_ns = self._fitted_ns
        return self._newest is None and fitted_ns is not None and now_ns() - fitted_ns < 2 * self._longest_ns

    @property
    def is_awaited(self) -> bool:
        """Whether it has given nothing yet, and may."""
        return self._newest is None and not self.has_ended

    def take(self, reading: Any, taken_ns: int) -> None:
        """A reading has come."""
        try:
            kept = self._fitting.take(reading)
        except ReadingError as error:
            self.complaint = str(error)
            if self._unusable % _COMPLAIN_EVERY == 0:
                _log.warning("%s: a reading is left out: %s (%d before it)", self.about, error, self._unusable)
            self._unusable += 1
            return
        if self._newest is None:
            came_ns = now_ns()
            self._longest_ns = max(self._longest_ns, came_ns - (self._fitted_ns or came_ns))
            self._fitted_ns = came_ns
        if kept is None:
            return
        is_first = self._newest is None
        self._newest = kept, taken_ns
        if is_first and self.on_first is not None:
            self.on_first()

    def capture(self) -> Reading:
        """See `SampleSource.capture`."""
        if self.has_ended:
            raise NothingSensedError("sensor-ended")
        newest = self._newest
        if newest is None:
            raise NothingSensedError("no-reading")
        kept, taken_ns = newest
        return Reading(self._fitting.sample(kept), None, taken_ns)


class Feed(Protocol):
    """Where readings come from."""

    about: str
    sensors: list[LiveSensor]

    def start(self, failed: Callable[[str], None]) -> None:
        """Begin to read. failed: told once, from any thread, how it has ended where nobody has closed it."""
        ...

    def close(self) -> None:
        """Read no more."""
        ...


class ThreadFeed:
    """Readings from something that is waited for, in a thread of its own."""

    def __init__(self, about: str, read: Callable[[threading.Event], Iterator[Taken]]) -> None:
        """read: gives the readings until it is told to end; raises EdgebenchError, or anything where it is a user's."""
        self.about = about
        self.sensors: list[LiveSensor] = []
        self._read = read
        self._over = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self, failed: Callable[[str], None]) -> None:
        """See `Feed`."""
        self._thread = threading.Thread(target=self._run, args=(failed,), name=f"sensor {self.about}", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """See `Feed`."""
        self._over.set()
        if self._thread is not None:
            self._thread.join(_CLOSE_S)  # one that waits in a driver cannot be told; it ends with the process

    def _run(self, failed: Callable[[str], None]) -> None:
        try:
            for reading, taken_ns in self._read(self._over):
                if self._over.is_set():
                    return
                for sensor in self.sensors:
                    sensor.take(reading, taken_ns)
            why = "it has ended"
        except EdgebenchError as error:
            why = str(error)
        except (Exception, SystemExit) as error:  # noqa: BLE001 - of a user's own sensor, or a driver
            why = describe_error(error)
        if not self._over.is_set():
            for sensor in self.sensors:
                sensor.has_ended = True
            failed(why)


def taken_now(reading: Any) -> Taken:
    """A reading that was taken when it came."""
    return reading, now_ns()


Sensed = tuple[str, str]
"""A device, and one of its workloads."""


class LiveSensors(NamedTuple):
    """Those of a process, and what they are fed by."""

    sensors: dict[Sensed, LiveSensor]
    kinds: dict[Sensed, str]
    feeds: list[Feed]
    closings: list[Callable[[], None]]

    def close(self) -> None:
        """Read no more."""
        for feed in self.feeds:
            feed.close()
        for close in self.closings:
            close()
