"""The law of an emulated machine's cores: a station of c servers, first come, first served.

A machine runs threads. A thread does one job after another, and needs a core for each, for as long as the job takes;
the longest waiting thread gets the next core that is free. A job is never interrupted, and one thread never has two
cores. Times are those at which the machine would be ready: what calls back late does not delay what follows.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import NamedTuple, Protocol

from edgebench.clock import NS_PER_MS, Time

_SLICE_NS = 4 * NS_PER_MS
"""A kernel lets a thread that wakes up in within a few ms."""


class Job(Protocol):
    """What a thread does."""

    def begin(self, start_ns: int) -> int | None:
        """It has a core from now on: how long it takes, ns. None: there is nothing to be done after all."""
        ...

    def end(self, end_ns: int) -> None:
        """It is done; `end_ns` may have passed a little."""
        ...


class Cores:
    """The cores of one machine."""

    __slots__ = ("_free", "_waiting", "busy_ns", "time")

    def __init__(self, time: Time, number: int) -> None:
        self.time = time
        self.busy_ns = 0
        """Of all together, what has begun included to its end."""
        self._free = [0] * number
        """Since when each core that is free is so; a heap."""
        self._waiting: deque[Thread] = deque()

    def ask(self, thread: Thread, at_ns: int) -> None:
        """A thread that waits for no core and has none has a job from `at_ns` on."""
        if self._free:
            thread.go_on(max(at_ns, heapq.heappop(self._free)))
        else:
            self._waiting.append(thread)

    def give_back(self, at_ns: int) -> None:
        """A core is free."""
        if self._waiting:
            self._waiting.popleft().go_on(at_ns)
        else:
            heapq.heappush(self._free, at_ns)


class Thread:
    """One thread of an emulated machine."""

    __slots__ = ("_cores", "_jobs", "_time")

    def __init__(self, cores: Cores) -> None:
        self._cores = cores
        self._time = cores.time
        self._jobs: deque[tuple[int, Job]] = deque()

    @property
    def jobs(self) -> int:
        """How many are not done."""
        return len(self._jobs)

    def do(self, at_ns: int, job: Job) -> None:
        """Do a job, once those before it are done; it is there from `at_ns` on, which may have passed a little."""
        self._jobs.append((at_ns, job))
        if len(self._jobs) == 1:
            self._cores.ask(self, at_ns)

    def go_on(self, start_ns: int) -> None:
        """There is a core for the next job."""
        at_ns, job = self._jobs[0]
        start_ns = max(start_ns, at_ns)
        service_ns = job.begin(start_ns)
        if service_ns is None:
            self._over(start_ns)
        else:
            self._cores.busy_ns += service_ns
            end_ns = start_ns + service_ns
            self._time.call_at(end_ns, partial(self._end, job, end_ns))

    def _end(self, job: Job, end_ns: int) -> None:
        # What follows from it on this thread comes before what others ask for, and waits behind those that wait.
        job.end(end_ns)
        self._over(end_ns)

    def _over(self, end_ns: int) -> None:
        self._jobs.popleft()
        self._cores.give_back(end_ns)
        if self._jobs:
            self._cores.ask(self, end_ns)


class Work:
    """A job that takes a time, and tells of its end."""

    __slots__ = ("_service_ns", "_then")

    def __init__(self, service_ns: int, then: Callable[[int], None]) -> None:
        """then(end_ns)."""
        self._service_ns = service_ns
        self._then = then

    def begin(self, _start_ns: int) -> int:
        """See `Job`."""
        return self._service_ns

    def end(self, end_ns: int) -> None:
        """See `Job`."""
        self._then(end_ns)


class Leaving:
    """A job whose outcome has to set out `early_ns` before it is done, since its way from here takes that long."""

    __slots__ = ("_early_ns", "_service_ns", "_then", "_time")

    def __init__(self, time: Time, service_ns: int, early_ns: int, then: Callable[[int], None]) -> None:
        """then(due_ns): called when it has to set out, at the earliest when the job begins."""
        self._time = time
        self._service_ns = service_ns
        self._early_ns = min(early_ns, service_ns)
        self._then = then

    def begin(self, start_ns: int) -> int:
        """See `Job`."""
        due_ns = start_ns + self._service_ns - self._early_ns
        self._time.call_at(due_ns, partial(self._then, due_ns))
        return self._service_ns

    def end(self, _end_ns: int) -> None:
        """See `Job`."""


class LongWork(NamedTuple):
    """What would keep others from a core for long. wanted: asked before each slice; then(start_ns, end_ns): it is done,
    to its end."""

    service_ns: int
    wanted: Callable[[], bool]
    then: Callable[[int, int], None]


class SlicedThread:
    """A thread that does one long work after another, in slices between which others get its core: it is the least
    urgent of what the machine does."""

    def __init__(self, cores: Cores) -> None:
        self._thread = Thread(cores)
        self._time = cores.time
        self._works: deque[LongWork] = deque()

    def do(self, work: LongWork) -> None:
        """Do it, from now on, once those before it are done."""
        self._works.append(work)
        if len(self._works) == 1:
            self._begin(self._time.now_ns())

    def _begin(self, at_ns: int) -> None:
        while self._works and not self._works[0].wanted():
            self._works.popleft()
        if self._works:
            self._go_on(self._works[0].service_ns, None, at_ns)

    def _go_on(self, left_ns: int, begun_ns: int | None, at_ns: int) -> None:
        slice_ns = min(left_ns, _SLICE_NS)
        self._thread.do(at_ns, Work(slice_ns, partial(self._over, left_ns, slice_ns, begun_ns)))

    def _over(self, left_ns: int, slice_ns: int, begun_ns: int | None, end_ns: int) -> None:
        work = self._works[0]
        begun_ns = end_ns - slice_ns if begun_ns is None else begun_ns
        if left_ns > slice_ns and work.wanted():
            self._go_on(left_ns - slice_ns, begun_ns, end_ns)
            return
        self._works.popleft()
        self._begin(end_ns)
        if left_ns == slice_ns:
            work.then(begun_ns, end_ns)
