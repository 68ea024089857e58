"""The real work of emulated nodes: their models run in a thread beside the reactor, one batch after another.

Any number of nodes of a process share it, as fast as this machine is: what comes of it waits for its time elsewhere.
"""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from edgebench.clock import NS_PER_MS
from edgebench.core.batching import InferenceRequest
from edgebench.core.emulation import Machine, Outputs, key_of
from edgebench.core.service_times import lacking, splits_by
from edgebench.errors import ModelError
from edgebench.fabric.reactor import Reactor
from edgebench.fabric.timing import timed_ns
from edgebench.inference.runtime import Runtime
from edgebench.inference.spec import Manifest
from edgebench.topology.wording import listed

_log = logging.getLogger(__name__)
T = TypeVar("T")


class _Batch:
    """A batch under way: see `Inferring`. Only `run` is called in the thread of the work."""

    __slots__ = ("_call", "_digest", "_done", "_outputs", "_reactor", "_runtime", "_told", "_x")

    def __init__(self, reactor: Reactor, runtime: Runtime, digest: str, x: Sequence[NDArray[Any]]) -> None:
        self._reactor = reactor
        self._runtime = runtime
        self._digest = digest
        self._x = x
        self._outputs: Outputs | None = None
        self._done = False
        self._told = False
        self._call: Callable[[Outputs | None], None] | None = None

    def run(self) -> None:
        """Do the work."""
        try:
            self._outputs = self._runtime.infer(self._x[0][np.newaxis] if len(self._x) == 1 else np.stack(self._x))
        except Exception:  # noqa: BLE001
            # Whatever a runtime raises, the samples are accounted for and the stream goes on; the verdict names it.
            _log.exception("the model %s failed on a batch of %d", self._digest[:12], len(self._x))
        # Whoever of the two threads comes second sees what the other has left.
        self._done = True
        if self._call is not None:
            self._reactor.call_soon_threadsafe(self._tell)

    def when_done(self, call: Callable[[Outputs | None], None]) -> bool:
        """See `Inferring`."""
        self._call = call
        if self._done:
            self._tell()
        return self._told

    def _tell(self) -> None:
        if not self._told:
            self._told = True
            assert self._call is not None
            self._call(self._outputs)


class RealWork:
    """The thread."""

    def __init__(self, name: str, reactor: Reactor) -> None:
        self._reactor = reactor
        self._jobs: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        threading.Thread(target=self._run, name=f"work-{name}", daemon=True).start()

    def model(self, runtime: Runtime, manifest: Manifest, *, holders: int = 1) -> SharedModel:
        """A warm model, which now belongs to this thread. holders: so many will close it."""
        return SharedModel(self, runtime, manifest.digest, holders)

    def put(self, job: Callable[[], None]) -> None:
        """Do this, once all that was put before is done."""
        self._jobs.put(job)

    def batch(self, runtime: Runtime, digest: str, x: Sequence[NDArray[Any]]) -> _Batch:
        """Begin with a batch."""
        batch = _Batch(self._reactor, runtime, digest, x)
        self.put(batch.run)
        return batch

    def _run(self) -> None:
        while True:
            self._jobs.get()()


class SharedModel:
    """A model in that thread; see `WarmModel`."""

    __slots__ = ("_digest", "_holders", "_runtime", "_work")

    def __init__(self, work: RealWork, runtime: Runtime, digest: str, holders: int) -> None:
        self._work = work
        self._runtime = runtime
        self._digest = digest
        self._holders = holders

    def begin(self, requests: Sequence[InferenceRequest[Any]]) -> _Batch:
        """See `WarmModel`."""
        return self._work.batch(self._runtime, self._digest, [request.x for request in requests])

    def close(self) -> None:
        """See `WarmModel`."""
        self._holders -= 1
        if not self._holders:
            self._work.put(self._runtime.close)


def check_emulable(machine: Machine, runtime: Runtime, manifest: Manifest, max_batch: int) -> None:
    """Raises ModelError where a machine's profile does not know what a model takes there, or this machine takes as long
    for it, so that nothing can be done early. runtime: warm."""
    profile, model = machine.profile, key_of(manifest)
    times = profile.model_times(model)
    missing = lacking(times, splits_by(model.runtime, manifest.batches), max_batch)
    if missing:
        sizes = listed([str(size) for size in missing])
        raise ModelError(f"the profile '{profile.name}' has no times of {model} for batches of {sizes} (measure them)")
    there = machine.times_of(manifest)
    for n in sorted({1, max_batch}):
        mean_ns = there.mean_ns(n)
        here_ns = min(timed_ns(runtime, np.zeros((n, *manifest.input.shape), manifest.input.dtype), mean_ns))
        if here_ns >= mean_ns:
            raise ModelError(
                f"{model}: this machine takes {here_ns / NS_PER_MS:.3g} ms for a batch of {n} at best, and "
                f"'{profile.name}' {mean_ns / NS_PER_MS:.3g} ms on average: it is too slow to emulate that"
            )
