"""Virtual time, links and a model server in it: the whole way of a sample without a process, a socket or a wait.

It stands in for the network and the models where time is virtual; the core's tests run on it.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable
from functools import partial
from typing import Generic, TypeVar

import numpy as np

from edgebench.clock import VirtualClock
from edgebench.core.batching import Batcher, InferenceRequest, Served, ServerOwner
from edgebench.core.links import Lane
from edgebench.inference.runtime import Runtime
from edgebench.inference.spec import Manifest
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


class FakeServer(Generic[T]):
    """One model and its queue, as a `ModelServer` has them; a batch takes what `service_ns` says of its size."""

    def __init__(
        self, time: VirtualTime, batch: Batch, bound: Queue, owner: ServerOwner[T], service_ns: Callable[[int], int]
    ) -> None:
        self._time = time
        self._batcher: Batcher[T] = Batcher(batch, bound)
        self._owner = owner
        self._service_ns = service_ns
        self._model: tuple[Runtime, Manifest] | None = None
        self._next: tuple[Runtime, Manifest] | None = None
        self._busy = False
        self._looks_at_ns: int | None = None

    def swap(self, runtime: Runtime, manifest: Manifest) -> None:
        """Decide with this model from the next batch on."""
        self._next = runtime, manifest
        if self._model is None:
            self._take_next_model()
        self._look()

    def submit(self, request: InferenceRequest[T]) -> None:
        """Queue a sample; when the queue is full one is dropped by the stated policy."""
        dropped = self._batcher.offer(request)
        if dropped is not None:
            self._owner.dropped(dropped, "queue-full")
        # After all that comes at this very time, as a thread would wake up.
        self._look_at(self._time.now_ns())

    def _look_at(self, at_ns: int) -> None:
        if self._looks_at_ns is None or at_ns < self._looks_at_ns:
            self._looks_at_ns = at_ns
            self._time.call_at(at_ns, partial(self._look_if, at_ns))

    def _look_if(self, at_ns: int) -> None:
        if self._looks_at_ns == at_ns:
            self._looks_at_ns = None
            self._look()

    def _look(self) -> None:
        if self._busy or self._model is None:
            return
        due = self._batcher.next_batch(self._time.now_ns())
        if isinstance(due, int):
            self._look_at(due)
        elif due is not None:
            self._busy = True
            self._take_next_model()
            started_ns = self._time.now_ns()
            done = partial(self._done, due, self._model, started_ns)
            self._time.call_at(started_ns + self._service_ns(len(due)), done)

    def _done(self, requests: list[InferenceRequest[T]], model: tuple[Runtime, Manifest], started_ns: int) -> None:
        runtime, manifest = model
        outputs = runtime.infer(np.stack([request.x for request in requests]))
        self._busy = False
        self._owner.served(Served(requests, outputs, manifest.digest, started_ns, self._time.now_ns()))
        self._look()

    def _take_next_model(self) -> None:
        if self._next is not None:
            self._model, self._next = self._next, None
            self._owner.swapped(self._model[1])
