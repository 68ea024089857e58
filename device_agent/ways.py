"""How an emulated device's samples come to be decided: over MQTT, or by its own model."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import msgspec
from numpy.typing import NDArray

from device_agent.outbox import Outbox
from device_agent.sensors.sensor import Sensor
from edgebench.clock import now_ns
from edgebench.core.batching import InferenceRequest, Served
from edgebench.core.device import Device
from edgebench.core.pending import Pending
from edgebench.core.samples import Reading, SampleKey
from edgebench.core.stream import Stream, decided_on_device
from edgebench.fabric import topics, wire
from edgebench.fabric.in_flight import Delivery
from edgebench.fabric.mqtt import Connection
from edgebench.fabric.pictures import JPEG, compressed
from edgebench.fabric.reactor import Reactor
from edgebench.fabric.serving import ModelServer
from edgebench.inference.runtime import Runtime
from edgebench.inference.spec import Manifest
from edgebench.topology.deployment import WorkloadPlan
from edgebench.topology.model import Batch

_FORGOTTEN_AT = 16
"""So many messages may be remembered beside what is undecided, before those are forgotten that the broker has or that
are decided: an agent may have a thousand devices."""

OnDevice = tuple[Stream, int]
"""A stream and the sequence number of its sample."""


class MqttWay:
    """To the site's broker."""

    __slots__ = (
        "_compress",
        "_connections",
        "_deliveries",
        "_device",
        "_dtype",
        "_keeps",
        "_outbox",
        "_qos",
        "_shape",
        "_staying",
        "_topic",
    )

    def __init__(
        self,
        run_id: str,
        device: Device,
        plan: WorkloadPlan,
        sensor: Sensor,
        connections: Mapping[str, Connection],
        *,
        moves: bool,
        outbox: Outbox | None = None,
    ) -> None:
        """connections: the device's, at the site where it is, under its name. moves: it will leave its site. outbox:
        where samples are kept until they are decided, if they are."""
        self._device = device
        self._connections = connections
        self._topic = topics.sample(run_id, device.name, plan.name)
        self._qos = plan.qos
        self._compress = plan.compress
        self._dtype = sensor.dtype if plan.compress is None else JPEG
        self._shape = sensor.shape
        self._keeps = (moves and plan.qos > 0) or outbox is not None
        self._outbox = outbox
        self._staying: set[tuple[int, int]] = set()
        """What does not set out yet: it is still to be kept, or the device has yet to come to it."""
        self._deliveries: dict[tuple[int, int], Delivery] = {}

    def carry(self, dtype: str, shape: tuple[int, ...]) -> None:
        """Its samples are of this form from now on."""
        self._dtype, self._shape = dtype, shape

    @property
    def backed_up(self) -> bool:
        """Whether messages wait for the connection to take more."""
        return self._connections[self._device.name].backed_up

    def send(self, stream: Stream, seq: int, scheduled_ns: int, captured_ns: int, reading: Reading) -> Pending:
        """Publish a sample; while the device moves it is held until it has come to its new site."""
        payload = self._packed(reading.x)
        sent_ns = now_ns()
        envelope = self._enveloped(stream, seq, scheduled_ns, captured_ns, sent_ns, payload)
        kept = envelope if self._keeps else b""
        pending = Pending(scheduled_ns, captured_ns, sent_ns, len(envelope), reading.label, reading.taken_ns, kept)
        if self._outbox is not None:
            key = stream.incarnation, seq
            return self._keep(stream, key, pending, partial(self._set_out, key, envelope))
        if not (kept and self._device.moving) and not self._publish(envelope):
            return _refused(pending, "not-connected")
        return pending

    def send_again(self, incarnation: int, seq: int, envelope: bytes, *, moved: bool) -> None:
        """Publish an undecided sample once more."""
        key = incarnation, seq
        delivery = self._deliveries.get(key)
        is_on_its_way = delivery is not None and not delivery.acknowledged
        if key in self._staying or (is_on_its_way and not moved):
            return
        self._go_again(key, envelope)

    def _go_again(self, key: tuple[int, int], envelope: bytes) -> None:
        if self._outbox is not None:
            self._set_out(key, envelope)
        elif not self._device.moving:
            self._publish(envelope)

    def _keep(self, stream: Stream, key: tuple[int, int], pending: Pending, then: Callable[[], None]) -> Pending:
        """Keep a sample before it sets out."""
        assert self._outbox is not None
        if len(self._deliveries) > _FORGOTTEN_AT + 2 * len(stream.pending):
            self._deliveries = {
                each: delivery
                for each, delivery in self._deliveries.items()
                if not delivery.acknowledged and (each[0] != stream.incarnation or each[1] in stream.pending)
            }
        self._staying.add(key)
        if not self._outbox.put(SampleKey(self._device.name, *key), pending, then):
            self._staying.discard(key)
            return _refused(pending, "store-full")
        return pending

    def _set_out(self, key: tuple[int, int], envelope: bytes) -> None:
        self._staying.discard(key)
        if self._device.moving:
            return  # it is sent from where the device comes to
        delivery = self._connections[self._device.name].publish_followed(self._topic, envelope)
        if delivery is not None:  # else it is tried again when something is missed
            self._deliveries[key] = delivery

    def _packed(self, x: NDArray[Any]) -> memoryview:
        return x.data.cast("B") if self._compress is None else memoryview(compressed(x, self._compress.quality))

    def _enveloped(
        self, stream: Stream, seq: int, scheduled_ns: int, captured_ns: int, sent_ns: int, payload: memoryview
    ) -> bytes:
        # The label stays here: no sensor would know it.
        sample = wire.Sample(
            wire.VERSION,
            seq,
            stream.incarnation,
            scheduled_ns,
            captured_ns,
            sent_ns,
            self._dtype,
            self._shape,
            None,
            payload,
        )
        return wire.encode(sample)

    def _publish(self, envelope: bytes) -> bool:
        return self._connections[self._device.name].publish(self._topic, envelope, qos=self._qos)


def _refused(pending: Pending, why: str) -> Pending:
    """A sample that does not set out, and never will."""
    return msgspec.structs.replace(pending, refused=why, envelope=b"")


class OnBoard:
    """To the model that all devices of this process share, one sample at a time; it answers its streams.

    Devices of one process are separate machines in the world, so they never share a batch.
    """

    backed_up = False

    def __init__(self, plan: WorkloadPlan, reactor: Reactor, swapped: Callable[[Manifest], None]) -> None:
        self._reactor = reactor
        self._swapped = swapped
        self.server: ModelServer[OnDevice] = ModelServer(plan.name, Batch(max_batch=1), plan.queue, self)

    def send(self, stream: Stream, seq: int, scheduled_ns: int, captured_ns: int, reading: Reading) -> Pending:
        """Submit a sample."""
        self.server.submit(InferenceRequest(reading.x, captured_ns, (stream, seq)))
        return Pending(scheduled_ns, captured_ns, captured_ns, 0, reading.label, reading.taken_ns)

    def send_again(self, incarnation: int, seq: int, envelope: bytes, *, moved: bool) -> None:
        """Do nothing: what never travels is never sent again."""

    def use(self, runtime: Runtime, manifest: Manifest) -> None:
        """Decide with this (warm) model from the next sample on."""
        self.server.swap(runtime, manifest)

    def served(self, served: Served[OnDevice]) -> None:
        """Bring the decisions to their streams."""
        self._reactor.call_soon_threadsafe(partial(self._decided, served))

    def dropped(self, request: InferenceRequest[OnDevice], reason: str) -> None:
        """Tell the stream."""
        stream, seq = request.about
        self._reactor.call_soon_threadsafe(partial(stream.dropped, seq, reason))

    def swapped(self, manifest: Manifest) -> None:
        """Write down which model decides from now on."""
        self._swapped(manifest)

    @staticmethod
    def _decided(served: Served[OnDevice]) -> None:
        decided_on_device(served, now_ns())
