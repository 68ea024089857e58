"""Faults of a run: when what is brought about, as plain data, and what brings it about while the run goes on."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterable
from types import TracebackType

from edgebench.clock import NS_PER_S, now_ns
from edgebench.topology.deployment import Frozen
from edgebench.topology.model import Fault


class CutLink(Frozen, frozen=True, tag="cut"):
    """Break every connection across a link, and let none pass."""

    link: str


class MendLink(Frozen, frozen=True, tag="mend"):
    """Let connections across a link pass again."""

    link: str


class Kill(Frozen, frozen=True, tag="kill"):
    """Kill a part, whose death is then expected: it ends no run and is no reason against one."""

    part: str


Injection = CutLink | MendLink | Kill


class TimedInjection(Frozen, frozen=True):
    """at_s: after the first sample may be due."""

    at_s: float
    injection: Injection


class FaultDriver:
    """Brings faults about at their times."""

    def __init__(
        self,
        faults: Iterable[TimedInjection],
        inject: Callable[[Injection], None],
        clock: Callable[[], int] = now_ns,
    ) -> None:
        self._waiting = sorted(faults, key=lambda fault: fault.at_s)
        self._inject = inject
        self._now_ns = clock

    def next_in_s(self, start_ns: int) -> float | None:
        """How long it is until the next one; None after the last."""
        if not self._waiting:
            return None
        return max(0.0, self._waiting[0].at_s - (self._now_ns() - start_ns) / NS_PER_S)

    def advance(self, start_ns: int) -> None:
        """Inject what is due by now, of streams that began at `start_ns`."""
        while self._waiting and self._now_ns() - start_ns >= self._waiting[0].at_s * NS_PER_S:
            self._inject(self._waiting.pop(0).injection)


class FaultTimer:
    """Advances a driver from a thread of its own, so that whatever the run's watcher waits for delays no fault.

    To be used by `with`, at whose end the thread ends too.
    """

    def __init__(self, driver: FaultDriver) -> None:
        self._driver = driver
        self._thread: threading.Thread | None = None
        self._over = threading.Event()
        self._failure: Exception | None = None

    def begin(self, start_ns: int) -> None:
        """The streams began, or will, at `start_ns`. To be called again and again: raises what a fault failed by."""
        self._raise_failure()
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, args=(start_ns,), name="faults", daemon=True)
            self._thread.start()

    def _run(self, start_ns: int) -> None:
        try:
            while (wait_s := self._driver.next_in_s(start_ns)) is not None:
                if self._over.wait(wait_s):
                    return
                self._driver.advance(start_ns)
        except Exception as failure:  # noqa: BLE001  (whatever it is, it is raised in the thread of the run)
            self._failure = failure

    def _raise_failure(self) -> None:
        failure, self._failure = self._failure, None
        if failure is not None:
            raise failure

    def __enter__(self) -> FaultTimer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        if self._thread is not None:
            self._thread.join()
        if error is None:
            self._raise_failure()


def schedule(faults: Iterable[Fault]) -> tuple[TimedInjection, ...]:
    """When which link is cut and mended, in order; faults of one link that meet are one."""
    cuts: dict[str, list[tuple[float, float]]] = {}
    for fault in sorted(faults, key=lambda fault: fault.at_s):
        assert fault.link is not None
        until_s = math.inf if fault.for_s is None else fault.at_s + fault.for_s
        of_link = cuts.setdefault(fault.link, [])
        if of_link and fault.at_s <= of_link[-1][1]:
            of_link[-1] = (of_link[-1][0], max(of_link[-1][1], until_s))
        else:
            of_link.append((fault.at_s, until_s))
    timed = [TimedInjection(at_s, CutLink(link)) for link, of_link in cuts.items() for at_s, _ in of_link]
    timed += [
        TimedInjection(end_s, MendLink(link))
        for link, of_link in cuts.items()
        for _, end_s in of_link
        if end_s < math.inf
    ]
    return tuple(sorted(timed, key=lambda fault: fault.at_s))
