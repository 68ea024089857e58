"""What travels besides payloads: MQTT's own bytes, and the envelopes in which an edge passes samples on; and how large
payloads are, by the form of what they hold."""

from __future__ import annotations

from edgebench.core.samples import Decision, HeadStamps, Stamps
from edgebench.fabric import wire
from edgebench.inference.spec import TensorSpec
from edgebench.simulation.service_times import BYTES_A_VALUE

_FORWARD_BYTES = 27
_ANSWER_BYTES = 7
_SEQ, _NS = 1_000, 1 << 40
"""Of some sample of a run."""
_DIGEST = "0" * 64
_WHEN = HeadStamps(_NS, _NS, _NS, 1)


def publish_bytes(topic: str, payload: int, qos: int) -> int:
    """What an MQTT 3.1.1 PUBLISH packet holds besides its payload."""
    variable = 2 + len(topic) + (2 if qos else 0)
    remaining = variable + payload
    return 1 + (1 + sum(remaining >= 1 << bits for bits in (7, 14, 21))) + variable


def forward_bytes(device: str) -> int:
    """What `fabric.wire.Forward` adds to a sample of a device."""
    return _FORWARD_BYTES + len(device)


def sample_bytes(spec: TensorSpec) -> int:
    """What a device sends of a sample of this form that is not compressed: `fabric.wire.Sample`."""
    payload = memoryview(bytes(spec.size_bytes))
    sample = wire.Sample(wire.VERSION, _SEQ, 0, _NS, _NS, _NS, spec.dtype, spec.shape, None, payload)
    return len(wire.encode(sample))


def decision_bytes(decider: str, outputs: int, *, of_cloud: bool, of_chain: bool) -> int:
    """What a device gets of a decision of so many values that was made alone: `core.samples.Decision`. of_cloud: an
    edge has passed the sample on, and the decision back."""
    way, head = _NS if of_cloud else None, _WHEN if of_chain else None
    stamps = Stamps(_NS, _NS, _NS, _NS, _NS, way, way, way, way, head=head)
    output = bytes(BYTES_A_VALUE * outputs)
    return len(wire.encode(Decision(wire.VERSION, _SEQ, 0, decider, _DIGEST, output, 1, stamps)))


def output_bytes(size_bytes: int) -> int:
    """What goes on of what the first stage of a chain gives, float32 of that size: `fabric.wire.Sample`, and when."""
    sample = sample_bytes(TensorSpec("float32", (size_bytes // BYTES_A_VALUE,)))
    return sample + len(wire.encode(_WHEN)) - len(wire.encode(None))


def answer_bytes(device: str) -> int:
    """What `fabric.wire.Answer` adds to a decision for a device."""
    return _ANSWER_BYTES + len(device)
