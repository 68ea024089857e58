"""What travels by MQTT of federated messages: notices, as MessagePack arrays whose first item is the kind.

What a message carries is fetched, and its reply handed in, by HTTP (a *claim check*, as the patterns of messaging call
it). Notices go at QoS 0, the cheapest there is: a connection that breaks loses those under way. `Asked` is repeated
until the client says that it has the message; a lost `Cancelled` is made good when the client fetches or hands in; of
the rest, nothing but a stamp or a moment depends.
"""

from __future__ import annotations

from typing import Annotated, TypeVar

import msgspec
from msgspec import Meta

from edgebench.decoding import UNREADABLE
from edgebench.federated.content import Head

LONGEST_REASON = 300
LARGEST_NOTICE_BYTES = 4096

_Digest = Annotated[str, Meta(pattern=r"^[0-9a-f]{64}\Z")]
_Reason = Annotated[str, Meta(max_length=LONGEST_REASON)]


class Asked(msgspec.Struct, frozen=True, array_like=True, tag=0):
    """From the server: a message with this head; its content has this SHA-256 and so many bytes."""

    head: Head
    digest: _Digest
    size_bytes: Annotated[int, Meta(ge=0, le=1 << 48)]

    @property
    def message_id(self) -> str:
        """Names it among all."""
        return self.head.message_id


class Cancelled(msgspec.Struct, frozen=True, array_like=True, tag=1):
    """From the server: no reply to this message is wanted any more."""

    message_id: str
    reason: _Reason


class Delivered(msgspec.Struct, frozen=True, array_like=True, tag=2):
    """From the client: it has this message, all of it."""

    message_id: str


class Refused(msgspec.Struct, frozen=True, array_like=True, tag=3):
    """From the client: there will be no reply to this message."""

    message_id: str
    reason: _Reason


FromServer = Asked | Cancelled
FromClient = Delivered | Refused
_Notice = TypeVar("_Notice")


class MalformedError(Exception):
    """Bytes that are no notice."""


encode = msgspec.msgpack.Encoder().encode
_from_server = msgspec.msgpack.Decoder(FromServer)
_from_client = msgspec.msgpack.Decoder(FromClient)


def from_server(payload: bytes) -> FromServer:
    """The notice of a server. Raises MalformedError."""
    return _decoded(_from_server, payload)


def from_client(payload: bytes) -> FromClient:
    """The notice of a client. Raises MalformedError."""
    return _decoded(_from_client, payload)


def _decoded(decoder: msgspec.msgpack.Decoder[_Notice], payload: bytes) -> _Notice:
    try:
        return decoder.decode(payload)
    except UNREADABLE:
        raise MalformedError from None
