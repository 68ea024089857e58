"""A check of what a broker may have kept on a damaged disk: a mark and a CRC-32 of topic and payload before a payload.

Where durability is promised all connections of a run seal what they publish. JSON is for everybody, and goes as it is.
"""

from __future__ import annotations

import zlib

_MARK = b"\xc1"
"""What neither MessagePack nor JSON ever begins with."""
_CRC_BYTES = 4
_BODY_AT = len(_MARK) + _CRC_BYTES
_JSON = b"{"


def sealed(topic: str, payload: bytes) -> bytes:
    """The payload as it travels."""
    if payload[:1] in (b"", _JSON):
        return payload
    return b"".join((_MARK, _crc(topic, payload), payload))


def unsealed(topic: str, payload: bytes) -> bytes | None:
    """The payload as it was published; None where it, or its topic, was changed on the way."""
    if payload[:1] in (b"", _JSON):
        return payload
    body = payload[_BODY_AT:]
    return body if payload[:_BODY_AT] == _MARK + _crc(topic, body) else None


def _crc(topic: str, payload: bytes) -> bytes:
    return zlib.crc32(payload, zlib.crc32(topic.encode())).to_bytes(_CRC_BYTES, "big")
