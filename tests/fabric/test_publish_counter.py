"""Messages told from the bytes of a connection."""

from __future__ import annotations

import pytest

from edgebench.fabric.publish_counter import PublishCounter


def publish(size: int) -> bytes:
    """A PUBLISH packet with `size` bytes after the fixed header."""
    length = bytearray()
    left = size
    while True:
        left, digit = divmod(left, 128)
        length.append(digit | (0x80 if left else 0))
        if not left:
            return b"\x30" + bytes(length) + bytes(size)


PACKETS = (
    b"\x10\x0c\x00\x04MQTT\x04\x02\x00\x3c\x00\x00"  # CONNECT
    + publish(127)
    + publish(128)
    + b"\xc0\x00"  # PINGREQ: no bytes after the header
    + b"\x40\x02\x00\x01"  # PUBACK
    + publish(20_000)
)


@pytest.mark.parametrize("step", [1, 2, 3, 7, 100, 100_000])
def test_publish_packets_are_counted_however_the_bytes_are_cut(step: int) -> None:
    counter = PublishCounter()
    assert sum(counter.feed(PACKETS[at : at + step]) for at in range(0, len(PACKETS), step)) == 3


def test_a_message_counts_when_its_last_byte_has_come() -> None:
    counter = PublishCounter()
    assert counter.feed(publish(300)[:-1]) == 0
    assert counter.feed(b"\0") == 1


@pytest.mark.parametrize("garbage", [b"\x30\xff\xff\xff\xff\xff", b"\x00\x00", b"\xf0\x00"])
def test_bytes_that_are_no_mqtt_are_not_counted_and_harm_nothing(garbage: bytes) -> None:
    counter = PublishCounter()
    assert counter.feed(publish(5) + garbage + publish(5)) == 1
