"""The crash-safe file to which a part writes what it records."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec

from edgebench.fabric.records import Entry

_HEAD_BYTES = 4
_encode = msgspec.msgpack.Encoder().encode


class Spool:
    """An append-only file of entries. What was flushed survives the death of its writer.

    One that is there already, of a part that was started again, goes on after its last whole entry. power: it survives
    a power cut, too.
    """

    def __init__(self, path: Path, *, power: bool = False) -> None:
        self.path = path
        self._power = power
        if path.is_file():
            os.truncate(path, sum(_HEAD_BYTES + len(body) for body in _bodies(path)))
        self._file = path.open("ab")
        self._lock = threading.Lock()

    def write(self, *entries: Entry) -> None:
        """Append entries and hand them to the operating system; from any thread."""
        self.append(encoded(entries))

    def append(self, written: bytes) -> None:
        """As `write`, of what `encoded` has given."""
        with self._lock:
            self._file.write(written)
            self._file.flush()
            if self._power:
                os.fsync(self._file.fileno())

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def encoded(entries: Iterable[Entry]) -> bytes:
    """Entries as a spool has them."""
    written = bytearray()
    for body in map(_encode, entries):
        written += len(body).to_bytes(_HEAD_BYTES, "big") + body
    return bytes(written)


def read_spool(path: Path) -> Iterator[Entry]:
    """The entries of a spool, up to where a killed writer broke off."""
    yield from map(msgspec.msgpack.Decoder(Entry).decode, _bodies(path))


def _bodies(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while len(head := file.read(_HEAD_BYTES)) == _HEAD_BYTES:
            size = int.from_bytes(head, "big")
            body = file.read(size)
            if (
                len(body) < size or not size
            ):  # no entry is empty: a power cut leaves zeros where nothing was written yet
                return
            yield body
