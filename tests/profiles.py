"""Profiles for tests, which change what they are about."""

from __future__ import annotations

from typing import Any

import msgspec

from edgebench.topology.profiles import Inference, Measured, MessageCost, Profile, Times


def ms_times(*milliseconds: float) -> Times:
    """Each of these is as likely as any other."""
    return Times(len(milliseconds), tuple(1e3 * each for each in sorted(milliseconds)))


def inference(batch: int, *milliseconds: float, task: str = "icu-death", runtime: Any = "fake") -> Inference:
    """Of a light model."""
    return Inference(task, "light", runtime, "float32", 1, batch, ms_times(*milliseconds))


def message(size_bytes: int, relay: float, receive: float, send: float, qos: Any = 1) -> MessageCost:
    """Each takes exactly this, ms; an answer as much as anything else that is sent."""
    return MessageCost(qos, size_bytes, ms_times(relay), ms_times(receive), ms_times(send), ms_times(send))


SLOW = Profile(
    schema=1,
    name="slow-board",
    origin=Measured("2026-11-28", "0", "aarch64", "made up", "none", "none"),
    cores=2,
    memory_mb=1000,
    inference=(inference(1, 20.0), inference(8, 40.0), inference(32, 100.0)),
    messages=(message(100, 1.0, 2.0, 3.0), message(100_000, 3.0, 6.0, 9.0)),
    wake=ms_times(0.0),
)
"""A batch of one takes 20 ms, of eight 40 ms; a message of up to 100 bytes 1 ms at the broker, 2 ms to be taken in, and
3 ms to be sent. The thread of a model is awake at once."""


def profile(**changes: Any) -> Profile:
    """The slow board, with these fields."""
    return msgspec.structs.replace(SLOW, **changes)
