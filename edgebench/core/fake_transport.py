"""Virtual time, links and a model server in it: the whole way of a sample without a process, a socket or a wait.

It stands in for the network and the models where time is virtual; the core's tests run on it.
"""

from __future__ import annotations

import heapq
import itertools
import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Generic, NamedTuple, TypeVar

import numpy as np

from edgebench.clock import VirtualClock
from edgebench.core.batching import InferenceRequest, ServerOwner
from edgebench.core.emulation import EmulatedServer, Outputs
from edgebench.core.links import Lane
from edgebench.core.releases import Releases
from edgebench.core.station import Cores, Thread
from edgebench.inference.runtime import Runtime
from edgebench.topology.model import Batch, Queue

T = TypeVar("T")

Rank = tuple[float, ...]
FIRST: Rank = ()
LAST: Rank = (math.inf,)
"""Before, and after, all else at a time."""


_SLOT_BITS = 20
"""Of ns: a millisecond."""

_Call = tuple[int, Rank, int, Callable[[], None]]


class VirtualTime(VirtualClock):
    """A clock that calls back: it jumps from one call to the next.

    Calls of one time come in the order of their ranks, and those of one rank in the order of asking. They are kept by
    the slot of time that they are due in, and put in order when it begins. Source: Brown 1988, calendar queues.
    """

    def __init__(self, start_ns: int = 0) -> None:
        super().__init__(start_ns)
        self._slot = start_ns >> _SLOT_BITS
        self._calls: list[_Call] = []
        self._later: dict[int, list[_Call]] = {}
        self._slots: list[int] = []
        """Of `_calls` and `_slots` the least comes first: they are heaps. In the former is what is due in this slot or
        before its end, in `_later` what is due in others, by slot."""
        self._next_number = itertools.count().__next__

    def call_at(self, due_ns: int, call: Callable[[], None], rank: Rank = FIRST) -> None:
        """Call at a time, or next where it has passed."""
        if due_ns < self._now_ns:
            due_ns = self._now_ns
        asked = (due_ns, rank, self._next_number(), call)
        slot = due_ns >> _SLOT_BITS
        if slot <= self._slot:
            heapq.heappush(self._calls, asked)
        elif slot in self._later:
            self._later[slot].append(asked)
        else:
            self._later[slot] = [asked]
            heapq.heappush(self._slots, slot)

    def run(self, until_ns: int | None = None) -> None:
        """Make all calls that are due up to a time, or all that there are, and those that they ask for."""
        calls, slots, pop = self._calls, self._slots, heapq.heappop
        last_ns = math.inf if until_ns is None else until_ns
        while True:
            while calls and calls[0][0] <= last_ns:
                self._now_ns, _, _, call = pop(calls)  # which has not passed: no call is asked for in the past
                call()
            if calls or not slots or slots[0] << _SLOT_BITS > last_ns:
                break
            self._slot = pop(slots)
            calls += self._later.pop(self._slot)
            heapq.heapify(calls)
        if until_ns is not None:
            self.move_to(until_ns)


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
    return EmulatedServer(
        thread, time, batch, bound, owner, Releases(), lambda _manifest: Exactly(service_ns), lambda: 0
    )
