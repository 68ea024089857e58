"""Serving a model from a queue: bounded, batched, and swapped between two batches. Used by every tier."""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable, Sequence
from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from edgebench.clock import NS_PER_S, now_ns
from edgebench.inference.runtime import Runtime
from edgebench.inference.spec import Manifest
from edgebench.topology.model import Batch, Queue

_log = logging.getLogger(__name__)
T = TypeVar("T")


class InferenceRequest(NamedTuple, Generic[T]):
    """A sample that waits. x: [*shape]; received_ns: when the node took it in; `about` is the asker's own."""

    x: NDArray[Any]
    received_ns: int
    about: T


class Served(NamedTuple, Generic[T]):
    """A decided batch. outputs: float32 [request, output]."""

    requests: Sequence[InferenceRequest[T]]
    outputs: NDArray[np.float32]
    digest: str
    started_ns: int
    finished_ns: int


class ModelServer(Generic[T]):
    """One model, one queue, one thread. The callbacks run in that thread, except `on_drop` of a full queue."""

    def __init__(
        self,
        name: str,
        batch: Batch,
        bound: Queue,
        *,
        on_served: Callable[[Served[T]], None],
        on_drop: Callable[[InferenceRequest[T], str], None],
        on_swap: Callable[[Manifest], None],
    ) -> None:
        """on_drop gets the reason: `queue-full`, `inference-failed`."""
        self._queue: queue.SimpleQueue[InferenceRequest[T] | None] = queue.SimpleQueue()
        self._batch = batch
        self._bound = bound
        self._on_served = on_served
        self._on_drop = on_drop
        self._on_swap = on_swap
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
        if self._queue.qsize() >= self._bound.max_samples:
            if self._bound.when_full == "drop-newest":
                self._on_drop(request, "queue-full")
                return
            try:
                oldest = self._queue.get_nowait()
            except queue.Empty:
                oldest = None
            if oldest is not None:
                self._dropped += 1
                self._on_drop(oldest, "queue-full")
        self._submitted += 1
        self._queue.put(request)

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
        self._has_model.set()
        self._queue.put(None)
        self._thread.join()

    def _serve(self) -> None:
        self._has_model.wait()
        self._take_next_model()
        while True:
            first = self._queue.get()
            if first is None:
                return
            requests, x = self._gather(first)
            model = self._take_next_model()
            if model is None:  # stopped before the first model came
                return
            self._decide(model, requests, x)
            self._done += len(requests)

    def _gather(self, first: InferenceRequest[T]) -> tuple[list[InferenceRequest[T]], NDArray[Any]]:
        """A batch, and its tensor [request, *shape], which stands until the next is gathered."""
        requests = [first]
        x = first.x[np.newaxis]
        until_ns = first.received_ns + int(self._batch.max_wait_ms * 1e6)
        while len(requests) < self._batch.max_batch:
            try:
                wait_s = (until_ns - now_ns()) / NS_PER_S
                request = self._queue.get(timeout=wait_s) if wait_s > 0 else self._queue.get_nowait()
            except queue.Empty:
                break
            if request is None:
                self._queue.put(None)  # decide these first; the end is seen again
                break
            if len(requests) == 1:
                x = self._laid_out(first.x)
            # Each sample is laid out as it comes: while others are awaited, and fresh from the network.
            x[len(requests)] = request.x
            requests.append(request)
        return requests, x[: len(requests)]

    def _laid_out(self, first: NDArray[Any]) -> NDArray[Any]:
        """Room for a whole batch, the same each time, with its first sample in it."""
        if self._room is None or self._room.shape[1:] != first.shape or self._room.dtype != first.dtype:
            self._room = np.empty((self._batch.max_batch, *first.shape), first.dtype)
        self._room[0] = first
        return self._room

    def _take_next_model(self) -> tuple[Runtime, Manifest] | None:
        if self._next is None:
            return self._current
        old = self._current
        with self._swap_lock:
            self._current, self._next = self._next, None
        if old is not None:
            old[0].close()
        if self._current is not None:
            self._on_swap(self._current[1])
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
                self._on_drop(request, "inference-failed")
            return
        self._on_served(Served(requests, outputs, manifest.digest, started_ns, now_ns()))
