"""Samples that wait for a model: a bounded queue, and when which of them are decided together."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from edgebench.clock import NS_PER_MS
from edgebench.inference.spec import Manifest
from edgebench.topology.model import Batch, Queue

T = TypeVar("T")


class InferenceRequest(NamedTuple, Generic[T]):
    """A sample that waits. x: [*shape]; received_ns: when the node took it in; `about` is the asker's own. is_trial:
    only what it takes is asked for, and it costs no other one its room."""

    x: NDArray[Any]
    received_ns: int
    about: T
    is_trial: bool = False


class Served(NamedTuple, Generic[T]):
    """A decided batch. outputs: float32 [request, output]."""

    requests: Sequence[InferenceRequest[T]]
    outputs: NDArray[np.float32]
    digest: str
    started_ns: int
    finished_ns: int


class ServerOwner(Protocol[T]):
    """Whose samples a server decides, and who is told of them."""

    def served(self, served: Served[T]) -> None:
        """A batch has been decided."""
        ...

    def dropped(self, request: InferenceRequest[T], reason: str) -> None:
        """A sample will not be decided: `queue-full`, `inference-failed`."""
        ...

    def swapped(self, manifest: Manifest) -> None:
        """From the next batch on this model decides."""
        ...


class BatchServer(Protocol[T]):
    """What decides samples, at some time."""

    def submit(self, request: InferenceRequest[T]) -> None:
        """Queue a sample. From one thread at a time."""
        ...


class Batcher(Generic[T]):
    """What waits for one model.

    One thread may `offer` while another takes batches: what both touch is a deque, whose ends are atomic.
    """

    __slots__ = ("_bound", "_max_batch", "_max_wait_ns", "_queue", "_trials", "closing", "gathered")

    def __init__(self, batch: Batch, bound: Queue) -> None:
        self._queue: deque[InferenceRequest[T]] = deque()
        self._trials: deque[InferenceRequest[T]] = deque()
        self._bound = bound
        self._max_batch = batch.max_batch
        self._max_wait_ns = round(batch.max_wait_ms * NS_PER_MS)
        self.gathered: list[InferenceRequest[T]] = []
        """The batch so far, in the order of arrival; it counts no more as waiting."""
        self.closing = False
        """Nothing more will come, so nothing is waited for."""

    def __len__(self) -> int:
        return len(self._queue) + len(self._trials)

    def offer(self, request: InferenceRequest[T]) -> InferenceRequest[T] | None:
        """Take a sample in; where the queue is full, the one that has to go by the stated policy comes back.

        A trial has to go itself, and where it does not it is no part of what makes the queue full.
        """
        queue = self._queue
        dropped = None
        if request.is_trial:
            if max(len(queue), len(self._trials)) >= self._bound.max_samples:
                return request
            self._trials.append(request)
            return None
        if len(queue) >= self._bound.max_samples:
            if self._bound.when_full == "drop-newest":
                return request
            try:
                dropped = queue.popleft()
            except IndexError:  # it was taken into a batch just now
                dropped = None
        queue.append(request)
        return dropped

    def next_batch(self, now_ns: int) -> list[InferenceRequest[T]] | int | None:
        """A batch that is due; else the time in ns at which there will be one, at the latest; None where none waits.

        A batch is due when it is full, or when its first sample has waited for as long as is allowed.
        """
        queue, trials, gathered, most = self._queue, self._trials, self.gathered, self._max_batch
        try:
            while (queue or trials) and len(gathered) < most:
                is_trial = trials and not (queue and queue[0].received_ns < trials[0].received_ns)
                gathered.append((trials if is_trial else queue).popleft())
        except IndexError:  # the last one was dropped just now
            pass
        if not gathered:
            return None
        if len(gathered) < most and self._max_wait_ns and not self.closing:
            due_ns = gathered[0].received_ns + self._max_wait_ns
            if due_ns > now_ns:
                return due_ns
        self.gathered = []
        return gathered
