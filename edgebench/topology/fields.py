"""What the records of a topology file are made of: their base, and numbers with their bounds."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

Name = Annotated[str, Meta(pattern=r"^[a-z0-9]([a-z0-9-]*[a-z0-9])?$(?!\n)", max_length=63)]
# Far from any use; what lies within neither overflows a clock in ns nor, by a slip of the pen, fills a machine.
DurationS = Annotated[float, Meta(gt=0, le=604_800)]
TimeS = Annotated[float, Meta(ge=0, le=604_800)]
DelayMs = Annotated[float, Meta(ge=0, le=60_000)]
BoundMs = Annotated[float, Meta(gt=0, le=604_800_000)]
RateHz = Annotated[float, Meta(ge=1e-6, le=1e6)]
LossPercent = Annotated[float, Meta(ge=0, lt=100)]
RateMbitS = Annotated[float, Meta(ge=0.001, le=1e6)]
MemoryMb = Annotated[int, Meta(ge=64, le=10**7)]
Count = Annotated[int, Meta(ge=1, le=10**9)]
Samples = Annotated[int, Meta(ge=1, le=10**7)]
Epochs = Annotated[int, Meta(ge=1, le=10**5)]


class Strict(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A record of the file: immutable, and an unknown field is an error."""
