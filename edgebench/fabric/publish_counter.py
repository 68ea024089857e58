"""How many messages cross a connection, told from its bytes."""

from __future__ import annotations

_RESERVED_TYPES = (0, 15)


class PublishCounter:
    """Counts the PUBLISH packets in one direction of an MQTT connection, however the bytes are cut.

    Source: MQTT 3.1.1, section 2.2 (fixed header). After bytes that are no MQTT it counts no more.
    """

    __slots__ = ("_broken", "_header", "_left", "_publish")

    def __init__(self) -> None:
        self._header = bytearray()
        self._left = 0
        self._publish = False
        self._broken = False

    def feed(self, data: bytes) -> int:
        """How many PUBLISH packets end in `data`."""
        ended = 0
        at = 0
        while at < len(data) and not self._broken:
            if self._left:
                step = min(self._left, len(data) - at)
                self._left -= step
                at += step
                ended += self._publish and not self._left
                continue
            self._header.append(data[at])
            at += 1
            if len(self._header) > 1 and self._header[-1] < 0x80:
                self._left = sum((byte & 0x7F) << (7 * place) for place, byte in enumerate(self._header[1:]))
                self._publish = self._header[0] >> 4 == 3
                self._header.clear()
            elif len(self._header) == 5 or self._header[0] >> 4 in _RESERVED_TYPES:
                self._broken = True
        return ended
