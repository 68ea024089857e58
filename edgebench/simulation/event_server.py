"""A model's server in virtual time, with the queue and the batches of `core.batching`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Generic, TypeVar

import numpy as np

from edgebench.core.batching import Batcher, InferenceRequest, Served, ServerOwner
from edgebench.core.fake_transport import LAST, VirtualTime
from edgebench.inference.runtime import Runtime
from edgebench.inference.spec import Manifest
from edgebench.topology.model import Batch, Queue

T = TypeVar("T")


class VirtualServer(Generic[T]):
    """One model and its queue on a thread of its own, as `fabric.serving.ModelServer` has them."""

    def __init__(
        self,
        time: VirtualTime,
        batch: Batch,
        bound: Queue,
        owner: ServerOwner[T],
        service_ns: Callable[[Sequence[InferenceRequest[T]], bool], int],
        *,
        wake_ns: Callable[[InferenceRequest[T]], int] | None = None,
        free_ns: Callable[[], int] | None = None,
    ) -> None:
        """service_ns: what a batch takes, which may begin as soon as another is done. wake_ns: until an idle server
        looks at what has come. free_ns: asked once the owner has been told of a batch: when that has answered it, and
        the server is free again."""
        self._time = time
        self._batcher: Batcher[T] = Batcher(batch, bound)
        self._owner = owner
        self._service_ns = service_ns
        self._wake_ns = wake_ns
        self._free_ns = free_ns
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
        wake_ns = 0 if self._busy or self._wake_ns is None else self._wake_ns(request)
        dropped = self._batcher.offer(request)
        if dropped is not None:
            self._owner.dropped(dropped, "queue-full")
        if not self._busy:
            self._look_at(self._time.now_ns() + wake_ns)

    def _look_at(self, at_ns: int) -> None:
        if self._looks_at_ns is None or at_ns < self._looks_at_ns:
            self._looks_at_ns = at_ns
            # After all that comes at this very time, as a thread would wake up.
            self._time.call_at(at_ns, partial(self._look_if, at_ns), LAST)

    def _look_if(self, at_ns: int) -> None:
        if self._looks_at_ns == at_ns:
            self._looks_at_ns = None
            self._look()

    def _look(self, *, at_once: bool = False) -> None:
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
            self._time.call_at(started_ns + self._service_ns(due, at_once), done)

    def _done(self, requests: list[InferenceRequest[T]], model: tuple[Runtime, Manifest], started_ns: int) -> None:
        runtime, manifest = model
        now_ns = self._time.now_ns()
        outputs = runtime.infer(np.concatenate([request.x for request in requests]).reshape(len(requests), -1))
        self._owner.served(Served(requests, outputs, manifest.digest, started_ns, now_ns))
        self._time.call_at(now_ns if self._free_ns is None else self._free_ns(), self._is_free, LAST)

    def _is_free(self) -> None:
        self._busy = False
        self._look(at_once=True)

    def _take_next_model(self) -> None:
        if self._next is not None:
            self._model, self._next = self._next, None
            self._owner.swapped(self._model[1])
