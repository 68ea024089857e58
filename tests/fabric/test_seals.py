"""A seal tells what was changed on its way, and leaves JSON alone."""

from __future__ import annotations

import pytest

from edgebench.fabric.seals import sealed, unsealed
from edgebench.seeds import rng_for

TOPIC = "eb/r/bed-0/watch/sample"
PAYLOAD = bytes([0x99, 3]) + rng_for(7, "payload").bytes(300)


def test_what_was_sealed_is_opened_again() -> None:
    assert unsealed(TOPIC, sealed(TOPIC, PAYLOAD)) == PAYLOAD


@pytest.mark.parametrize("payload", [b"", b'{"values": [1.0]}'])
def test_json_and_what_is_empty_travel_as_they_are(payload: bytes) -> None:
    assert sealed(TOPIC, payload) == payload
    assert unsealed(TOPIC, payload) == payload


def test_any_flipped_bit_of_payload_or_topic_is_noticed() -> None:
    whole = sealed(TOPIC, PAYLOAD)
    for bit in range(8 * len(whole)):
        changed = bytearray(whole)
        changed[bit // 8] ^= 1 << bit % 8
        assert unsealed(TOPIC, bytes(changed)) is None
    for bit in range(7 * len(TOPIC)):
        topic = bytearray(TOPIC.encode())
        topic[bit // 7] ^= 1 << bit % 7
        assert unsealed(topic.decode(), whole) is None


def test_what_is_cut_off_or_was_never_sealed_is_not_heard() -> None:
    whole = sealed(TOPIC, PAYLOAD)
    for size_bytes in (1, 4, 5, len(whole) - 1):
        assert unsealed(TOPIC, whole[:size_bytes]) is None
    assert unsealed(TOPIC, PAYLOAD) is None
