"""Serving a model from a queue, in a thread: batched, and swapped between two batches. Used by every tier."""

from __future__ import annotations

import logging
import queue
import threading
from contextlib import suppress
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from edgebench.clock import NS_PER_S, now_ns
from edgebench.core.batching import Batcher, InferenceRequest, Served, ServerOwner
from edgebench.inference.runtime import Runtime
from edgebench.inference.spec import Manifest
from edgebench.topology.model import Batch, Queue

_log = logging.getLogger(__name__)
T = TypeVar("T")


class ModelServer(Generic[T]):
    """One model, one queue, one thread, in which its owner is called, except for what is dropped from a full queue."""

    def __init__(self, name: str, batch: Batch, bound: Queue, owner: ServerOwner[T]) -> None:
        self._batcher: Batcher[T] = Batcher(batch, bound)
        self._max_batch = batch.max_batch
        self._owner = owner
        self._asleep = False
        self._bell: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._swap_lock = threading.Lock()
        self._next: tuple[Runtime, Manifest] | None = None
        self._current: tuple[Runtime, Manifest] | None = None
        self._has_model = threading.Event()
        self._submitted = 0
        self._dropped = 0
        self._done = 0
        self._room: NDArray[Any] | None = None
        self._thread = threading.Thread(target=self._serve, name=f"serve-{name}", daemon=True)
        self._thread.start()

    def submit(self, request: InferenceRequest[T]) -> None:
        """Queue a sample; when the queue is full one is dropped by the stated policy. From one thread at a time."""
        self._submitted += 1
        dropped = self._batcher.offer(request)
        if self._asleep:
            self._asleep = False
            self._bell.put(None)
        if dropped is not None:
            self._dropped += 1
            self._owner.dropped(dropped, "queue-full")

    def swap(self, runtime: Runtime, manifest: Manifest) -> None:
        """Decide with this model from the next batch on. The runtime must be warm; it now belongs to the server."""
        with self._swap_lock:
            unused, self._next = self._next, (runtime, manifest)
        if unused is not None:
            unused[0].close()
        self._has_model.set()

    @property
    def idle(self) -> bool:
        """Whether nothing waits and nothing is being decided."""
        return self._submitted == self._done + self._dropped

    def stop(self) -> None:
        """Decide what is queued, then end the thread."""
        self._batcher.closing = True
        self._has_model.set()
        self._bell.put(None)
        self._thread.join()

    def _serve(self) -> None:
        self._has_model.wait()
        self._take_next_model()
        batcher = self._batcher
        laid = 0
        x = np.empty(0)
        while True:
            due = batcher.next_batch(now_ns())
            if due is None:
                if batcher.closing:
                    return
                self._sleep(None)
                continue
            # Each sample is laid out as it comes: while others are awaited, and fresh from the network.
            gathered = due if isinstance(due, list) else batcher.gathered
            if len(gathered) > laid:
                x = self._laid_out(gathered, laid)
                laid = len(gathered)
            if not isinstance(due, list):
                self._sleep(due)
                continue
            laid = 0
            model = self._take_next_model()
            if model is None:  # stopped before the first model came
                return
            self._decide(model, due, x)
            self._done += len(due)

    def _sleep(self, until_ns: int | None) -> None:
        """Until something comes, the end included, or `until_ns`. It may also wake for nothing."""
        self._asleep = True
        # Whatever came before that was said rings no bell.
        if not len(self._batcher) and not self._batcher.closing:
            if until_ns is None:
                self._bell.get()
            elif (wait_s := (until_ns - now_ns()) / NS_PER_S) > 0:
                with suppress(queue.Empty):
                    self._bell.get(timeout=wait_s)
        self._asleep = False

    def _laid_out(self, requests: list[InferenceRequest[T]], already: int) -> NDArray[Any]:
        """The tensor [request, *shape] of a batch so far, `already` of it laid out; it stands until the next batch."""
        first = requests[0].x
        if len(requests) == 1:
            return first[np.newaxis]
        if self._room is None or self._room.shape[1:] != first.shape or self._room.dtype != first.dtype:
            self._room = np.empty((self._max_batch, *first.shape), first.dtype)
        room = self._room
        for place in range(already if already > 1 else 0, len(requests)):
            room[place] = requests[place].x
        return room[: len(requests)]

    def _take_next_model(self) -> tuple[Runtime, Manifest] | None:
        if self._next is None:
            return self._current
        old = self._current
        with self._swap_lock:
            self._current, self._next = self._next, None
        if old is not None:
            old[0].close()
        if self._current is not None:
            self._owner.swapped(self._current[1])
        return self._current

    def _decide(self, model: tuple[Runtime, Manifest], requests: list[InferenceRequest[T]], x: NDArray[Any]) -> None:
        runtime, manifest = model
        started_ns = now_ns()
        try:
            outputs = runtime.infer(x)
        except Exception:  # noqa: BLE001
            # Whatever a runtime raises, the samples are accounted for and the stream goes on; the verdict names it.
            _log.exception("the model %s failed on a batch of %d", manifest.digest[:12], len(requests))
            for request in requests:
                self._owner.dropped(request, "inference-failed")
            return
        self._owner.served(Served(requests, outputs, manifest.digest, started_ns, now_ns()))
