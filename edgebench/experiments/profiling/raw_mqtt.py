"""MQTT 3.1.1 over TLS, by hand: what is sent is encrypted before its time counts, and what comes is decrypted after its
time was taken. So what is measured is the broker and the node at the other end, and hardly who measures."""

from __future__ import annotations

import select
import socket
import ssl
import struct
from typing import NamedTuple, Self

from edgebench.clock import now_ns, now_s
from edgebench.errors import FabricError

_READ_BYTES = 1 << 20
_BETWEEN_PIECES_S = 0.002
"""Longer than a broker pauses within a message, so that decrypting never delays the reading of the rest."""
_CONNACK, _PUBLISH, _PUBACK, _SUBACK = 2, 3, 4, 9
_TIMEOUT_S = 60.0


class Arrived(NamedTuple):
    """A message, and when its last byte could be read."""

    topic: str
    payload: bytes
    at_ns: int


class RawMqtt:
    """One connection; one thread."""

    def __init__(self, host: str, port: int, context: ssl.SSLContext, server_name: str, login: tuple[str, str]) -> None:
        """login: user and password. Raises FabricError, or OSError, where there is no connection to be had."""
        self._sock = socket.create_connection((host, port), _TIMEOUT_S)
        self._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._in, self._out, server_hostname=server_name)
        self._buffer = bytearray()
        self._read_ns = 0
        """When the last byte could be read of what was decrypted so far."""
        self._mid = 0
        self._shake_hands()
        user, password = login
        head = _text("MQTT") + bytes([4, 0b1100_0010]) + struct.pack("!H", 600)
        self._sock.sendall(self._sealed(_packet(0x10, head + _text(f"{user}-raw") + _text(user) + _text(password))))
        kind, body, _ = self._packet()
        if kind != _CONNACK << 4 or body[1]:
            raise FabricError(f"the broker that was started refuses the connection of {user}")

    def subscribe(self, topic: str, qos: int) -> None:
        """Hear what is published on these topics from now on."""
        self._mid = self._mid % 65_535 + 1
        self._sock.sendall(self._sealed(_packet(0x82, struct.pack("!H", self._mid) + _text(topic) + bytes([qos]))))
        kind, body, _ = self._packet()
        if kind != _SUBACK << 4 or body[2] > 2:
            raise FabricError(f"the broker that was started refuses the subscription of {topic}")

    def publish(self, topic: str, payload: bytes, qos: int) -> int:
        """Send a message; when its first byte left."""
        self._mid = self._mid % 65_535 + 1
        mid = struct.pack("!H", self._mid) if qos else b""
        sealed = self._sealed(_packet(0x30 | qos << 1, _text(topic) + mid + payload))
        at_ns = now_ns()
        self._sock.sendall(sealed)
        return at_ns

    def next_message(self) -> Arrived:
        """Wait for a message, and acknowledge it. Raises FabricError where none comes."""
        while True:
            kind, body, at_ns = self._packet()
            if kind >> 4 != _PUBLISH:
                continue
            length = struct.unpack_from("!H", body)[0]
            topic, rest = body[2 : 2 + length].decode(), body[2 + length :]
            if (kind >> 1) & 3:
                self._sock.sendall(self._sealed(_packet(_PUBACK << 4, rest[:2])))
                rest = rest[2:]
            return Arrived(topic, rest, at_ns)

    def close(self) -> None:
        """Break off."""
        self._sock.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _shake_hands(self) -> None:
        while True:
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                self._sock.sendall(self._out.read())
                self._in.write(self._pieces())
            else:
                self._sock.sendall(self._out.read())
                return

    def _sealed(self, packet: bytes) -> bytes:
        self._tls.write(packet)
        return self._out.read()

    def _packet(self) -> tuple[int, bytes, int]:
        """The next one: its first byte, what follows its length, and when its last byte could be read."""
        until_s = now_s() + _TIMEOUT_S
        while (found := self._taken()) is None:
            if now_s() > until_s:
                raise FabricError("the broker that was started has not answered within a minute")
            self._in.write(self._pieces())
            self._decrypt()
        return *found, self._read_ns

    def _pieces(self) -> bytes:
        """What comes without a pause."""
        pieces, wait_s = [], _TIMEOUT_S
        while select.select([self._sock], [], [], wait_s)[0]:
            readable_ns = now_ns()
            piece = self._sock.recv(_READ_BYTES)
            if not piece:
                raise FabricError("the broker that was started has closed the connection")
            self._read_ns = readable_ns
            pieces.append(piece)
            wait_s = _BETWEEN_PIECES_S
        return b"".join(pieces)

    def _decrypt(self) -> None:
        try:
            while plain := self._tls.read(_READ_BYTES):
                self._buffer += plain
        except ssl.SSLWantReadError:
            return

    def _taken(self) -> tuple[int, bytes] | None:
        """A whole packet of what was decrypted."""
        length, shift, place = 0, 0, 1
        while True:
            if place >= len(self._buffer):
                return None
            byte = self._buffer[place]
            length |= (byte & 0x7F) << shift
            shift, place = shift + 7, place + 1
            if byte < 0x80:
                break
        if len(self._buffer) < place + length:
            return None
        kind, body = self._buffer[0], bytes(self._buffer[place : place + length])
        del self._buffer[: place + length]
        return kind, body


def _text(text: str) -> bytes:
    encoded = text.encode()
    return struct.pack("!H", len(encoded)) + encoded


def _packet(first: int, body: bytes) -> bytes:
    length, size = bytearray(), len(body)
    while True:
        size, byte = size >> 7, size & 0x7F
        length.append(byte | (0x80 if size else 0))
        if not size:
            return bytes([first]) + bytes(length) + body
