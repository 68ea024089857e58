"""Virtual time, links and a model server in it: the whole way of a sample without a process, a socket or a wait.

It stands in for the network and the models where time is virtual; the core's tests run on it.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable, Sequence
from functools import partial
from typing import Generic, NamedTuple, TypeVar

import numpy as np

from edgebench.clock import VirtualClock
from edgebench.core.batching import InferenceRequest, ServerOwner
from edgebench.core.emulation import EmulatedServer, Outputs, Releases
from edgebench.core.links import Lane
from edgebench.core.station import Cores, Thread
from edgebench.inference.runtime import Runtime
from edgebench.topology.model import Batch, Queue

T = TypeVar("T")


class VirtualTime:
    """A clock that calls back: it jumps from one call to the next. Calls of one time come in the order of asking."""

    def __init__(self, start_ns: int = 0) -> None:
        self._clock = VirtualClock(start_ns)
        self._calls: list[tuple[int, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self.now_ns = self._clock.now_ns

    def call_at(self, due_ns: int, call: Callable[[], None]) -> None:
        """Call at a time, or next where it has passed."""
        heapq.heappush(self._calls, (max(due_ns, self.now_ns()), next(self._order), call))

    def run(self, until_ns: int | None = None) -> None:
        """Make all calls that are due up to a time, or all that there are, and those that they ask for."""
        while self._calls and (until_ns is None or self._calls[0][0] <= until_ns):
            due_ns, _, call = heapq.heappop(self._calls)
            self._clock.move_to(due_ns)
            call()
        if until_ns is not None:
            self._clock.move_to(until_ns)


class FakeLink:
    """One direction of a link, with a relay's law: messages cross its lane whole, in order, and count when they arrive.

    A cut loses what is under way, as it breaks connections, and what is sent until it is mended.
    """

    def __init__(self, time: VirtualTime, lane: Lane) -> None:
        self._time = time
        self._lane = lane
        self._is_cut = False
        self._cuts = 0

    def cut(self) -> None:
        """Lose all that has not arrived."""
        self._is_cut = True
        self._cuts += 1

    def mend(self) -> None:
        """Carry again."""
        self._is_cut = False

    def carry(self, size_bytes: int, arrive: Callable[[], None]) -> bool:
        """Call `arrive` at the other end, in due time, unless it is cut before; False where it is cut already."""
        if self._is_cut:
            return False
        _, arrival_ns = self._lane.carry(self._time.now_ns(), size_bytes)
        self._time.call_at(arrival_ns, partial(self._arrived, self._cuts, size_bytes, arrive))
        return True

    def _arrived(self, cuts_before: int, size_bytes: int, arrive: Callable[[], None]) -> None:
        if cuts_before == self._cuts:
            self._lane.count(size_bytes, 1)
            arrive()


class AtOnce(Generic[T]):
    """A model whose real work takes no time; see `emulation.WarmModel`."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime

    def begin(self, requests: Sequence[InferenceRequest[T]]) -> _Done:
        """See `WarmModel`."""
        return _Done(self._runtime.infer(np.stack([request.x for request in requests])))

    def close(self) -> None:
        """See `WarmModel`."""
        self._runtime.close()


class _Done(NamedTuple):
    outputs: Outputs

    def when_done(self, call: Callable[[Outputs | None], None]) -> bool:
        call(self.outputs)
        return True


class Exactly(NamedTuple):
    """What a batch takes, by its size; see `emulation.ServiceTimes`."""

    service_ns: Callable[[int], int]


def fake_server(
    time: VirtualTime, batch: Batch, bound: Queue, owner: ServerOwner[T], service_ns: Callable[[int], int]
) -> EmulatedServer[T]:
    """One model and its queue on a machine of its own with one core; a batch takes what `service_ns` says of it."""
    thread = Thread(Cores(time, 1))
    return EmulatedServer(thread, time, batch, bound, owner, Releases(), lambda _manifest: Exactly(service_ns))
