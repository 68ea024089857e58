"""What is kept in a file until it is no longer wanted: in order, by key, and there again after a crash.

The file is append-only: a record for each body that comes, and one for each that is no longer wanted. It is written
anew once most of it is dead.
"""

from __future__ import annotations

import logging
import os
import queue
import struct
import threading
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

import msgspec

from edgebench.core.samples import SampleKey
from edgebench.decoding import UNREADABLE
from edgebench.errors import FabricError
from edgebench.fabric.kept_places import KeptPlaces, Place

_log = logging.getLogger(__name__)

_HEAD = struct.Struct(">cHII")
"""Of a record: `_BODY` or `_GONE`, the lengths of key and body, and the CRC-32 of all that, the key and the body."""
_BODY, _GONE = b"+", b"-"
_CRC_AT = _HEAD.size - 4
_SLACK_BYTES = 1 << 20
_ROOM_AGAIN_BYTES = 1 << 20
"""So much has to be kept before a disk that was full counts as one with room: where little is free, a store that drops
what is old takes and refuses in turn."""
_sync = getattr(os, "fdatasync", os.fsync)  # macOS has no fdatasync


class Keep:
    """Bodies by key. From any thread.

    What a call has kept survives the death of this process; with `power` it survives a power cut once `then` was
    called. A keep that is `passing` begins empty, and costs nothing for what is no longer wanted.
    """

    def __init__(self, path: Path, *, power: bool = False, passing: bool = False) -> None:
        """Raises FabricError where a file that is there is damaged."""
        self._path = path
        self._power = power
        self._passing = passing
        self._lock = threading.Lock()
        self._places = KeptPlaces()
        self._live_bytes = 0
        self._end = 0
        self._anew_from = 0
        """Not written anew again before the file is so long: there was no room for both."""
        self._full = False
        self._since_full_bytes = 0
        self._to_sync = False
        self._syncs = threading.Lock()
        flags = os.O_RDWR | os.O_CREAT | (os.O_TRUNC if passing else 0)
        self._fd = os.open(path, flags, 0o600)
        self._unsynced: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._syncing: threading.Thread | None = None
        if not passing:
            self._read()
            self._to_sync = self._end > 0  # an earlier life may not have come to it
            if power:
                _sync_folder(path.parent)

    def __len__(self) -> int:
        return len(self._places)

    def __contains__(self, key: SampleKey) -> bool:
        return key in self._places

    def __iter__(self) -> Iterator[SampleKey]:
        """The keys of all that is kept now, in the order in which it came."""
        with self._lock:
            return iter(list(self._places))

    def oldest(self, size_bytes: int) -> list[SampleKey]:
        """Those that came first, whose bodies together are at least so large."""
        found = []
        with self._lock:
            for key, place in self._places.items():
                if size_bytes <= 0:
                    break
                found.append(key)
                size_bytes -= place.size_bytes
        return found

    def size_of(self, key: SampleKey) -> int:
        """Of one body, in bytes. Raises KeyError where it is not kept."""
        return self._places[key].size_bytes

    @property
    def size_bytes(self) -> int:
        """Of the bodies that are kept."""
        return self._live_bytes

    def put(self, key: SampleKey, body: bytes, then: Callable[[], None] | None = None) -> bool:
        """Keep a body, and call `then` once it will survive: before this returns or, with `power`, from another thread.

        False where the disk is full: it is not kept, and `then` not called.
        """
        record, body_at = _record(_BODY, key, body)
        with self._lock:
            begin = self._end
            if not self._append(record):
                return False
            self._note_room(len(record))
            replaces = self._forget(key)
            self._places.add(key, Place(begin + body_at, len(body)))
            self._live_bytes += len(body)
            self._to_sync = True
            if replaces:
                self._shorten()
            if self._power and then is not None:
                self._after_sync(then)
        if not self._power and then is not None:
            then()
        return True

    def get(self, key: SampleKey) -> bytes:
        """A body that is kept. Raises KeyError where it is not."""
        with self._lock:
            place = self._places[key]
            return os.pread(self._fd, place.size_bytes, place.offset)

    def drop(self, keys: Iterable[SampleKey]) -> None:
        """Keep these no longer. Not kept is fine.

        That may be undone by a crash: what was dropped at last is then there again.
        """
        wanted = list(keys)  # which may come from here
        with self._lock:
            known = [key for key in wanted if self._forget(key)]
            if not known:
                return
            if not self._places:
                os.ftruncate(self._fd, 0)
                self._end = self._anew_from = 0
            elif not self._passing:
                self._append(b"".join(_record(_GONE, key, b"")[0] for key in known))
            self._shorten()

    def sync(self) -> None:
        """With `power`, return once all that was put survives a power cut."""
        if self._power:
            self._sync_file()

    def close(self) -> None:
        """Sync what is not yet, and close the file."""
        if self._syncing is not None:
            self._unsynced.put(None)
            self._syncing.join()
        os.close(self._fd)

    def _append(self, records: bytes) -> bool:
        """Whether there is room on the disk."""
        try:
            _write(self._fd, records, self._end)
        except OSError as error:
            os.ftruncate(self._fd, self._end)
            if not self._full:
                _log.error("%s: no more can be kept: %s", self._path, error.strerror)
            self._full, self._since_full_bytes = True, 0
            return False
        self._end += len(records)
        return True

    def _note_room(self, size_bytes: int) -> None:
        """So much was kept. Say once that there is room again."""
        if self._full:
            self._since_full_bytes += size_bytes
            if self._since_full_bytes >= _ROOM_AGAIN_BYTES:
                self._full = False
                _log.warning("%s: there is room again", self._path)

    def _forget(self, key: SampleKey) -> bool:
        place = self._places.pop(key)
        if place is not None:
            self._live_bytes -= place.size_bytes
        return place is not None

    def _read(self) -> None:
        """Find the bodies that are there; what a crash has cut off at the end is cut off."""
        with self._path.open("rb") as file:
            for begin, kind, key, body in _records(file, self._path):
                self._forget(key)
                if kind == _BODY:
                    self._places.add(key, Place(begin, len(body)))
                    self._live_bytes += len(body)
                self._end = begin + len(body)
        os.ftruncate(self._fd, self._end)

    def _shorten(self) -> None:
        """Write the file anew where most of it is dead."""
        if self._end > max(2 * self._live_bytes + _SLACK_BYTES, self._anew_from):
            self._write_anew()

    def _write_anew(self) -> None:
        anew = self._path.with_name(self._path.name + ".anew")
        places = KeptPlaces()
        end = 0
        fd = os.open(anew, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
        try:
            for key, place in self._places.items():
                record, body_at = _record(_BODY, key, os.pread(self._fd, place.size_bytes, place.offset))
                _write(fd, record, end)
                places.add(key, Place(end + body_at, place.size_bytes))
                end += len(record)
            if self._power:
                _sync(fd)
        except OSError as error:  # no space for both: it stays as it is
            os.close(fd)
            anew.unlink(missing_ok=True)
            self._anew_from = self._end + _SLACK_BYTES
            _log.warning("%s: cannot be written anew: %s", self._path, error.strerror)
            return
        anew.replace(self._path)
        if self._power:
            _sync_folder(self._path.parent)
        os.close(self._fd)
        self._fd, self._places, self._end, self._anew_from = fd, places, end, 0

    def _after_sync(self, then: Callable[[], None]) -> None:
        if self._syncing is None:
            self._syncing = threading.Thread(target=self._keep_syncing, name=f"sync {self._path.name}", daemon=True)
            self._syncing.start()
        self._unsynced.put(then)

    def _keep_syncing(self) -> None:
        while True:
            waiting = [self._unsynced.get()]
            while not self._unsynced.empty():
                waiting.append(self._unsynced.get())
            # All of these had been written before they began to wait. One sync serves them all.
            self._sync_file()
            for then in waiting:
                if then is None:
                    return
                then()

    def _sync_file(self) -> None:
        with self._syncs:  # what another sync is at has not survived before that is over
            with self._lock:
                if not self._to_sync:
                    return
                self._to_sync = False
                fd = os.dup(self._fd)
            try:
                _sync(fd)
            except OSError:
                self._to_sync = True
                raise
            finally:
                os.close(fd)


def _record(kind: bytes, key: SampleKey, body: bytes) -> tuple[bytes, int]:
    """A record, and where in it the body begins."""
    name = msgspec.msgpack.encode(key)
    head = _HEAD.pack(kind, len(name), len(body), 0)[:_CRC_AT]
    crc = zlib.crc32(body, zlib.crc32(name, zlib.crc32(head)))
    return b"".join((head, crc.to_bytes(4, "big"), name, body)), _HEAD.size + len(name)


def _records(file: BinaryIO, path: Path) -> Iterator[tuple[int, bytes, SampleKey, bytes]]:
    """Where the body of each record begins, its kind, key and body, up to where a crash broke the last one off.

    Raises FabricError where one before the last is not what was written.
    """
    size_bytes = os.fstat(file.fileno()).st_size
    decoder = msgspec.msgpack.Decoder(SampleKey)
    at = 0
    while len(head := file.read(_HEAD.size)) == _HEAD.size:
        kind, name_bytes, body_bytes, crc = _HEAD.unpack(head)
        body_at = at + _HEAD.size + name_bytes
        if body_at + body_bytes > size_bytes:
            if _holds_a_record(file.read()):  # then it is its length that is damaged
                raise FabricError(_damaged(path, at))
            return
        name, body = file.read(name_bytes), file.read(body_bytes)
        if zlib.crc32(body, zlib.crc32(name, zlib.crc32(head[:_CRC_AT]))) != crc:
            if not file.read().strip(b"\0"):  # the last, or followed by zeros, where a power cut left nothing written
                return
            raise FabricError(_damaged(path, at))
        yield body_at, kind, decoder.decode(name), body
        at = body_at + body_bytes


def _damaged(path: Path, at: int) -> str:
    return f"{path}: damaged at byte {at:,}: what this node kept is not what it wrote"


def _holds_a_record(rest: bytes) -> bool:
    """Whether a sound one begins anywhere in it."""
    decoder = msgspec.msgpack.Decoder(SampleKey)
    for kind in (_BODY, _GONE):
        at = rest.find(kind)
        while 0 <= at <= len(rest) - _HEAD.size:
            _, name_bytes, body_bytes, crc = _HEAD.unpack_from(rest, at)
            name_at = at + _HEAD.size
            end = name_at + name_bytes + body_bytes
            # Its key is looked at first: a CRC of all that may follow takes long.
            if end <= len(rest) and _is_key(decoder, rest[name_at : name_at + name_bytes]):
                head, carried = rest[at : at + _CRC_AT], rest[name_at:end]
                if zlib.crc32(carried, zlib.crc32(head)) == crc:
                    return True
            at = rest.find(kind, at + 1)
    return False


def _is_key(decoder: msgspec.msgpack.Decoder[SampleKey], name: bytes) -> bool:
    try:
        decoder.decode(name)
    except UNREADABLE:
        return False
    return True


def _write(fd: int, data: bytes, at: int) -> None:
    view = memoryview(data)
    while view:
        n = os.pwrite(fd, view, at)
        view, at = view[n:], at + n


def _sync_folder(folder: Path) -> None:
    """So that the names of files in it survive, too."""
    fd = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
