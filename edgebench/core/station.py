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
from typing import Protocol

from edgebench.clock import Time


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

    __slots__ = ("_free", "_waiting", "time")

    def __init__(self, time: Time, number: int) -> None:
        self.time = time
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
