"""Samples that have no decision yet, of this life of their device and of earlier ones."""

from __future__ import annotations

import msgspec

from edgebench.core.samples import HeadStamps


class Pending(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A sample on its way. envelope: only of a device that may have to send it again from elsewhere.

    refused: why it did not even set out. label, taken_ns: as `Reading` has them. sent_ns: None while the device has the
    first stage of a chain to do before; head: when it did that.
    """

    scheduled_ns: int
    captured_ns: int
    sent_ns: int | None
    size_bytes: int
    label: bytes | None
    taken_ns: int | None = None
    envelope: bytes = b""
    refused: str = ""
    head: HeadStamps | None = None


class EarlierLives(msgspec.Struct, frozen=True):
    """What a device that was started again knows of its earlier lives, by stream.

    undecided: incarnation and sequence number -> what it kept. sensed: how far its schedule had come at least.
    uncounted: samples that it kept, and did not live to count. accounted: all that it was scheduled, those included, or
    is known to have missed.
    """

    undecided: dict[tuple[int, int], Pending] = {}
    sensed: int = 0
    uncounted: int = 0
    accounted: int = 0
