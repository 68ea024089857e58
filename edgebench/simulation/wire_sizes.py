"""What travels besides payloads: MQTT's own bytes, and the envelopes in which an edge passes samples on."""

from __future__ import annotations

_FORWARD_BYTES = 27
_ANSWER_BYTES = 7


def publish_bytes(topic: str, payload: int, qos: int) -> int:
    """What an MQTT 3.1.1 PUBLISH packet holds besides its payload."""
    variable = 2 + len(topic) + (2 if qos else 0)
    remaining = variable + payload
    return 1 + (1 + sum(remaining >= 1 << bits for bits in (7, 14, 21))) + variable


def forward_bytes(device: str) -> int:
    """What `fabric.wire.Forward` adds to a sample of a device."""
    return _FORWARD_BYTES + len(device)


def answer_bytes(device: str) -> int:
    """What `fabric.wire.Answer` adds to a decision for a device."""
    return _ANSWER_BYTES + len(device)
