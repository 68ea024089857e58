"""The datagrams of a transfer, as MessagePack arrays whose first item is the kind; see `exchange` for what they do."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

_LARGEST_CHUNK_BYTES = 1 << 20
LONGEST_REASON = 300

_Number = Annotated[int, Meta(ge=0, le=(1 << 63) - 1)]
_Size = Annotated[int, Meta(ge=0, le=1 << 48)]
_ChunkSize = Annotated[int, Meta(ge=1, le=_LARGEST_CHUNK_BYTES)]


class Offer(msgspec.Struct, frozen=True, array_like=True, tag=0):
    """So many chunks of this transfer have been sent; which have come? `sent` counts from the first."""

    transfer_id: _Number
    lap: _Number
    sent: _Number
    size_bytes: _Size
    chunk_bytes: _ChunkSize


class Chunk(msgspec.Struct, frozen=True, array_like=True, tag=1):
    """A piece of the payload. digest: SHA-256 of the payload up to the end of this piece."""

    transfer_id: _Number
    lap: _Number
    index: _Number
    size_bytes: _Size
    chunk_bytes: _ChunkSize
    digest: bytes
    data: memoryview


class Ack(msgspec.Struct, frozen=True, array_like=True, tag=2):
    """All before `next` has come; what has not come of those before `before` is lost."""

    transfer_id: _Number
    lap: _Number
    next: _Number
    before: _Number


class Cancel(msgspec.Struct, frozen=True, array_like=True, tag=3):
    """The transfer is called off, in both directions."""

    transfer_id: _Number
    reason: Annotated[str, Meta(max_length=LONGEST_REASON)]


Datagram = Offer | Chunk | Ack | Cancel


class MalformedError(Exception):
    """Bytes that are no datagram."""


encode = msgspec.msgpack.Encoder().encode
_decoder = msgspec.msgpack.Decoder(Datagram)


def decode(datagram: bytes) -> Datagram:
    """The datagram in these bytes; the data of a chunk is a view of them. Raises MalformedError."""
    try:
        return _decoder.decode(datagram)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise MalformedError from None
