"""A sample, the decision on it, and when it passed where. All times are ns of the run's clock."""

from __future__ import annotations

from typing import Annotated, Any, NamedTuple

import msgspec
from msgspec import Meta
from numpy.typing import NDArray

VERSION = 5
"""Of every envelope; another one whenever the layout of any changes."""

_LARGEST_SEQ = 1 << 40
MOST_INCARNATIONS = 1024
"""Far from any use: so often a node can be started in one run."""

Sequence = Annotated[int, Meta(ge=0, le=_LARGEST_SEQ)]
Incarnation = Annotated[int, Meta(ge=0, le=MOST_INCARNATIONS - 1)]
"""How often a node had been started in its run before it was started this time: 0, 1, …

It tells the samples of a node that was started again from those of its earlier lives.
"""
Stamp = Annotated[int, Meta(ge=0, le=(1 << 63) - 1)]


class RejectedError(Exception):
    """Something that is no sample. `reason` is one of a few fixed words, so that they can be counted."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class NothingSensedError(Exception):
    """A sensor has nothing to give. `reason`: `no-reading` (none has come yet) or `sensor-ended`."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class SampleKey(NamedTuple):
    """A sample among all of a workload's. by: the edge that passed it on, to whoever decides for several."""

    device: str
    incarnation: int
    seq: int
    by: str = ""


class Reading(msgspec.Struct, frozen=True, gc=False):
    """What a sensor gives when a sample is due.

    x: [*shape]. label: raw float32, None of what was seen live. taken_ns: when a live sensor took it, by this machine's
    clock; None of what is replayed, which is taken when it is due.
    """

    x: NDArray[Any]
    label: bytes | None
    taken_ns: int | None = None


class HeadStamps(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """When the first stage of a chain was ready for a sample, began with it and was done; batch: samples at once."""

    ready_ns: Stamp
    started_ns: Stamp
    finished_ns: Stamp
    batch: Annotated[int, Meta(ge=1, le=65_536)]


class Stamps(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """When a sample, and its decision, passed where between the device's sending and its hearing of it.

    received, ready, started, finished, replied: at the deciding node; ready when it was checked and, where it came
    compressed, decompressed. forward, return: when the edge took in and sent on a sample, and its decision, that the
    cloud decided; None where none did. head: of a chain, what its first stage did meanwhile.
    """

    received_ns: Stamp
    ready_ns: Stamp
    started_ns: Stamp
    finished_ns: Stamp
    replied_ns: Stamp
    forward_in_ns: Stamp | None = None
    forward_out_ns: Stamp | None = None
    return_in_ns: Stamp | None = None
    return_out_ns: Stamp | None = None
    head: HeadStamps | None = None


class Decision(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One output, with the digest of the model that made it. output: raw float32, little-endian.

    seq, incarnation: the sample's. batch: how many samples were decided together.
    """

    version: int
    seq: Sequence
    incarnation: Incarnation
    decider: str
    digest: str
    output: bytes
    batch: Annotated[int, Meta(ge=1, le=65_536)]
    stamps: Stamps


class SampleRecord(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One sample, from its due time to the arrival of its decision; None for what it never reached.

    It is written by the device that sensed it, since the decision brings the stamps of every hop back. A sample without
    `arrived_ns` is lost. size_bytes, reply_bytes: MQTT payloads. label: raw float32. taken_ns: when a live sensor took
    what the sample holds, which is then without label. incarnation: of the device when it sensed the sample.
    """

    node: str
    workload: str
    seq: int
    scheduled_ns: int
    captured_ns: int
    sent_ns: int | None
    size_bytes: int
    label: bytes | None
    arrived_ns: int | None = None
    reply_bytes: int | None = None
    decision: Decision | None = None
    taken_ns: int | None = None
    incarnation: int = 0

    def columns(self) -> tuple[Any, ...]:
        """The values of `COLUMNS`."""
        found = self.decision
        sensed = (
            self.node,
            self.workload,
            self.seq,
            self.scheduled_ns,
            self.captured_ns,
            self.sent_ns,
            self.size_bytes,
            self.label,
            self.arrived_ns,
        )
        if found is None:
            return (*sensed, *_UNDECIDED, self.taken_ns, self.incarnation, *_NO_HEAD)
        by = found.stamps
        head = by.head
        return (
            *sensed,
            by.forward_in_ns,
            by.forward_out_ns,
            by.received_ns,
            by.ready_ns,
            by.started_ns,
            by.finished_ns,
            by.replied_ns,
            by.return_in_ns,
            by.return_out_ns,
            self.reply_bytes,
            found.decider,
            found.digest,
            found.output,
            found.batch,
            self.taken_ns,
            self.incarnation,
            *(_NO_HEAD if head is None else (head.ready_ns, head.started_ns, head.finished_ns, head.batch)),
        )


OF_HEAD = ("head_ready_ns", "head_started_ns", "head_finished_ns", "head_batch")
"""Of a chain's first stage; runs of versions without chains have no such columns."""
COLUMNS = (
    *("node", "workload", "seq", "scheduled_ns", "captured_ns", "sent_ns", "size_bytes", "label", "arrived_ns"),
    *("forward_in_ns", "forward_out_ns", "received_ns", "ready_ns", "started_ns", "finished_ns", "replied_ns"),
    *("return_in_ns", "return_out_ns", "reply_bytes", "decider", "digest", "output", "batch", "taken_ns"),
    "incarnation",
    *OF_HEAD,
)
"""The columns of `records.parquet`, a row a sample."""

_UNDECIDED = (None,) * 14
_NO_HEAD = (None,) * len(OF_HEAD)
