"""How a device's samples come to be decided by way of the first stage of a chain, which it does itself."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple, Protocol

import msgspec
import numpy as np
from numpy.typing import NDArray

from device_agent.ways import MqttWay
from edgebench.core.batching import InferenceRequest, Served
from edgebench.core.pending import Pending
from edgebench.core.samples import HeadStamps, Reading
from edgebench.core.stream import Stream
from edgebench.fabric.reactor import Reactor
from edgebench.fabric.serving import ModelServer
from edgebench.inference.runtime import Runtime
from edgebench.inference.spec import Manifest
from edgebench.topology.deployment import WorkloadPlan
from edgebench.topology.model import Batch


class FirstStage(Protocol):
    """What does it, for all devices of a process."""

    def submit(self, captured_ns: int, waiting: Waiting) -> None:
        """Do a sample that was sensed then; `heads_done` once it is."""
        ...

    def is_behind(self, device: str) -> bool:
        """Whether a device has something to do already."""
        ...

    def use(self, runtime: Runtime, manifest: Manifest) -> None:
        """Do it with this (warm) model from the next sample on. Raises ModelError where it cannot be emulated here."""
        ...


class Waiting(NamedTuple):
    """A sample whose first stage is still to be done, and whose it is."""

    way: HeadWay
    stream: Stream
    seq: int
    scheduled_ns: int
    reading: Reading


class HeadWay:
    """To the site's broker, by way of the first stage of a chain, which the device does."""

    __slots__ = ("_device", "_heads", "_way")

    def __init__(self, device: str, way: MqttWay, heads: FirstStage) -> None:
        """way: of what the first stage gives."""
        self._device = device
        self._way = way
        self._heads = heads

    @property
    def backed_up(self) -> bool:
        """Whether there is something to do, or messages wait for the connection to take more."""
        return self._heads.is_behind(self._device) or self._way.backed_up

    def send(self, stream: Stream, seq: int, scheduled_ns: int, captured_ns: int, reading: Reading) -> Pending:
        """Have the first stage done."""
        self._heads.submit(captured_ns, Waiting(self, stream, seq, scheduled_ns, reading))
        return Pending(scheduled_ns, captured_ns, None, 0, reading.label, reading.taken_ns)

    def send_again(self, incarnation: int, seq: int, envelope: bytes, *, moved: bool) -> None:
        """See `MqttWay`: what has not come so far has no envelope yet."""
        self._way.send_again(incarnation, seq, envelope, moved=moved)

    def done(self, waiting: Waiting, output: NDArray[np.float32], head: HeadStamps) -> None:
        """The first stage gives this, which sets out now. Nobody waits for one that was given up."""
        stream, seq, reading = waiting.stream, waiting.seq, waiting.reading
        if seq in stream.pending:
            self._way.carry("float32", output.shape)
            given = Reading(output, reading.label, reading.taken_ns)
            pending = self._way.send(stream, seq, waiting.scheduled_ns, head.finished_ns, given)
            stream.set_out(seq, msgspec.structs.replace(pending, captured_ns=head.ready_ns, head=head))


def heads_done(served: Served[Waiting]) -> None:
    """The first stage of some samples is done."""
    for request, output in zip(served.requests, served.outputs, strict=True):
        # It was ready for them as soon as they were sensed.
        head = HeadStamps(request.received_ns, served.started_ns, served.finished_ns, len(served.requests))
        request.about.way.done(request.about, output, head)


class Heads:
    """The model of it that all devices of this process share, one sample at a time; see `FirstStage`."""

    def __init__(self, plan: WorkloadPlan, reactor: Reactor, swapped: Callable[[Manifest], None]) -> None:
        self._reactor = reactor
        self._swapped = swapped
        self._server: ModelServer[Waiting] = ModelServer(plan.name, Batch(max_batch=1), plan.queue, self)

    def submit(self, captured_ns: int, waiting: Waiting) -> None:
        """See `FirstStage`."""
        self._server.submit(InferenceRequest(waiting.reading.x, captured_ns, waiting))

    def is_behind(self, device: str) -> bool:
        """See `FirstStage`."""
        return not self._server.idle

    def use(self, runtime: Runtime, manifest: Manifest) -> None:
        """See `FirstStage`."""
        self._server.swap(runtime, manifest)

    def served(self, served: Served[Waiting]) -> None:
        """See `ServerOwner`."""
        self._reactor.call_soon_threadsafe(partial(heads_done, served))

    def dropped(self, request: InferenceRequest[Waiting], reason: str) -> None:
        """Tell the stream."""
        about = request.about
        self._reactor.call_soon_threadsafe(partial(about.stream.dropped, about.seq, reason))

    def swapped(self, manifest: Manifest) -> None:
        """Write down which model does it from now on."""
        self._swapped(manifest)
