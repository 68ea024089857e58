"""What is carried: bytes on their way out, read piece by piece, and bytes on their way in, in memory or in a file."""

from __future__ import annotations

import hashlib
import os
import secrets
from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path

import msgspec

from edgebench.federated.content import Bytes, Parcel, read_parcel, unpack

Payload = Sequence[Bytes] | Path
"""Buffers, one after the other, or a file. Neither is copied, and neither may change until it has been sent."""

IN_MEMORY_BYTES = 1 << 20
"""What is larger is kept in a file as it comes in."""


class Received(msgspec.Struct, frozen=True):
    """A payload that has come in whole: either `data`, or a file that is the receiver's to delete.

    carried_bytes: payload bytes that came for it, those that came again included.
    """

    transfer_id: int
    size_bytes: int
    carried_bytes: int
    data: Bytes | None = None
    path: Path | None = None

    def parcel(self) -> Parcel:
        """What it says; the arrays are views of it, and stay valid when its file is deleted. Raises ContentError."""
        if self.path is not None:
            return read_parcel(self.path)
        return unpack(self.data or b"")

    def discard(self) -> None:
        """Delete the file, if it is one."""
        if self.path is not None:
            self.path.unlink(missing_ok=True)


class Source:
    """Reads the chunks of a payload, each with the SHA-256 of everything up to its end.

    So the digest of a chunk vouches for its data, its place and all before it; that of the last one is the digest of
    the whole. One pass over the bytes does it, as they are sent and not before: a large file delays nothing.
    """

    def __init__(self, payload: Payload, chunk_bytes: int) -> None:
        """Raises OSError for a file that is not there."""
        self._chunk_bytes = chunk_bytes
        self._sha = hashlib.sha256()
        self._digests: list[bytes] = []
        self._path = payload if isinstance(payload, Path) else None
        # An empty view of several dimensions cannot be cast to bytes.
        views = [] if isinstance(payload, Path) else [memoryview(buffer) for buffer in payload]
        self._views = [view.cast("B") for view in views if view.nbytes]
        self._starts = list(accumulate(map(len, self._views), initial=0))
        self.size_bytes = self._starts[-1] if self._path is None else self._path.stat().st_size
        self.n_chunks = count_chunks(self.size_bytes, chunk_bytes)

    @property
    def n_read(self) -> int:
        """How many chunks have been read so far, at least once."""
        return len(self._digests)

    def chunk(self, index: int) -> tuple[Bytes, bytes]:
        """Data and digest of a chunk that was read before, or of the next one. Raises OSError for a file cut short."""
        start = index * self._chunk_bytes
        size = min(self._chunk_bytes, self.size_bytes - start)
        data = self._gather(start, size) if self._path is None else _read(self._path, start, size)
        if index == len(self._digests):
            self._sha.update(data)
            self._digests.append(self._sha.digest())
        return data, self._digests[index]

    def _gather(self, start: int, size: int) -> Bytes:
        pieces: list[Bytes] = []
        at = bisect_right(self._starts, start) - 1
        while size > 0:
            offset = start - self._starts[at]
            piece = self._views[at][offset : offset + size]
            pieces.append(piece)
            start += len(piece)
            size -= len(piece)
            at += 1
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)


class Assembly:
    """A payload that comes in chunk by chunk, in order, each verified before it is kept."""

    def __init__(self, transfer_id: int, size_bytes: int, chunk_bytes: int, spool_dir: Path) -> None:
        self.transfer_id = transfer_id
        self.size_bytes = size_bytes
        self.chunk_bytes = chunk_bytes
        self.n_chunks = count_chunks(size_bytes, chunk_bytes)
        self.next = 0
        self.carried_bytes = 0
        # How far the exchange's talk with the sender has got; see there.
        self.lap = 0
        self.told: tuple[int, int] | None = None
        self.n_wrong = 0
        self._sha = hashlib.sha256()
        self._data = bytearray()
        self._whole: Bytes | None = None
        self._path = spool_dir / f"{secrets.token_hex(12)}.parcel" if size_bytes > IN_MEMORY_BYTES else None

    def fits(self, index: int, data: Bytes) -> bool:
        """Whether a chunk has the length of its place."""
        return index < self.n_chunks and len(data) == min(self.chunk_bytes, self.size_bytes - index * self.chunk_bytes)

    def add(self, data: Bytes, digest: bytes) -> bool:
        """Keep the next chunk; False where it is not what was sent. Raises OSError where there is no room for it."""
        sha = self._sha.copy()
        sha.update(data)
        if sha.digest() != digest:
            return False
        if self._path is not None:
            _append(self._path, data)
        elif self.n_chunks == 1:
            self._whole = data
        else:
            self._data += data
        self._sha = sha
        self.next += 1
        return True

    def finish(self) -> Received:
        """The payload, once all of it is there."""
        if self._path is not None:
            return Received(self.transfer_id, self.size_bytes, self.carried_bytes, path=self._path)
        data = self._whole if self._whole is not None else memoryview(self._data)
        return Received(self.transfer_id, self.size_bytes, self.carried_bytes, data)

    def discard(self) -> None:
        """Delete what has come, if it is in a file."""
        if self._path is not None:
            self._path.unlink(missing_ok=True)


def count_chunks(size_bytes: int, chunk_bytes: int) -> int:
    """How many chunks a payload makes; nothing is one empty chunk, so that it is no special case."""
    return max(1, -(-size_bytes // chunk_bytes))


# Files are opened for each chunk: that costs some 4 µs, and a thousand transfers that wait for their devices hold no
# descriptors, of which a process mostly has 1,024.
def _read(path: Path, start: int, size: int) -> bytes:
    file = os.open(path, os.O_RDONLY)
    try:
        data = os.pread(file, size, start)
    finally:
        os.close(file)
    if len(data) != size:
        raise OSError(f"{path} has become shorter")
    return data


def _append(path: Path, data: Bytes) -> None:
    file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        if os.write(file, data) != len(data):
            raise OSError(f"{path}: no room")
    finally:
        os.close(file)
