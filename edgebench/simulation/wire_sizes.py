"""What travels besides payloads: MQTT's own bytes, and the envelopes in which an edge passes samples on."""

from __future__ import annotations

from edgebench.core.samples import HeadStamps
from edgebench.fabric import wire
from edgebench.simulation.service_times import BYTES_A_VALUE

_FORWARD_BYTES = 27
_ANSWER_BYTES = 7
_SEQ, _NS = 1_000, 1 << 40
"""Of some sample of a run."""


def publish_bytes(topic: str, payload: int, qos: int) -> int:
    """What an MQTT 3.1.1 PUBLISH packet holds besides its payload."""
    variable = 2 + len(topic) + (2 if qos else 0)
    remaining = variable + payload
    return 1 + (1 + sum(remaining >= 1 << bits for bits in (7, 14, 21))) + variable


def forward_bytes(device: str) -> int:
    """What `fabric.wire.Forward` adds to a sample of a device."""
    return _FORWARD_BYTES + len(device)


def output_bytes(size_bytes: int) -> int:
    """What goes on of what the first stage of a chain gives, float32 of that size: `fabric.wire.Sample`, and when."""
    shape, payload = (size_bytes // BYTES_A_VALUE,), memoryview(bytes(size_bytes))
    sample = wire.Sample(wire.VERSION, _SEQ, 0, _NS, _NS, _NS, "float32", shape, None, payload)
    when = HeadStamps(_NS, _NS, _NS, 1)
    return len(wire.encode(sample)) + len(wire.encode(when)) - len(wire.encode(None))


def answer_bytes(device: str) -> int:
    """What `fabric.wire.Answer` adds to a decision for a device."""
    return _ANSWER_BYTES + len(device)
