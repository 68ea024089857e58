"""What a server asks of its clients, what becomes of it, and the files of both."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterable, Sequence
from pathlib import Path

import msgspec

from edgebench.federated.content import Bytes, ContentError, Head, Parcel, read_together, write_parcel


class Request(msgspec.Struct, frozen=True):
    """A message to a client. content: packed, with any head; requests with the same content have the same object."""

    client: str
    head: Head
    content: Sequence[Bytes]


class Reply(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a request: `error` is None if the reply has content.

    parcel: None where none came; if it is large, its arrays are mapped from a file. down_bytes, up_bytes: payload bytes
    that were sent and that came until the request ended, those of resumed transfers that went twice included, whether
    it became a reply or not; what clients of one process got together counts for each of them. The stamps are this
    side's; those of the client are in the parcel's head.
    """

    client: str
    message_id: str
    parcel: Parcel | None
    error: str | None
    submitted_ns: int
    delivered_ns: int | None
    received_ns: int | None
    down_bytes: int
    up_bytes: int


class ContentFile:
    """What some requests carry, in a file that goes when the last of them has ended."""

    def __init__(self, path: Path, digest: str, size_bytes: int, requests: int) -> None:
        self.path = path
        self.digest = digest
        self.size_bytes = size_bytes
        self._requests = requests
        self._lock = threading.Lock()

    def release(self) -> None:
        """One of the requests has ended; from any thread."""
        with self._lock:
            self._requests -= 1
            is_done = self._requests == 0
        if is_done:
            self.path.unlink(missing_ok=True)


class ReplyFile:
    """Replies that have come together, in a file that goes when all of them have been read, or are not wanted."""

    def __init__(self, path: Path, messages: int) -> None:
        self._path = path
        self._left = messages
        self._lock = threading.Lock()
        self._parcels: dict[str, Parcel] | None = None

    def reply_to(self, message_id: str) -> Parcel:
        """The reply to one of the messages. Raises ContentError, and OSError where it cannot be read."""
        with self._lock:
            if self._parcels is None:
                self._parcels = {parcel.head.reply_to: parcel for parcel in read_together(self._path)}
            parcel = self._parcels.pop(message_id, None)  # so that a large one is let go of with its reader
        if parcel is None:
            raise ContentError("a reply to another message")
        return parcel

    def release(self) -> None:
        """One of them is done with; what is mapped stays. From any thread."""
        with self._lock:
            self._left -= 1
            is_done = self._left == 0
        if is_done:
            self._path.unlink(missing_ok=True)


def write_contents(requests: Iterable[Request], directory: Path) -> list[ContentFile]:
    """A file for each content, written once; for each request the one that it carries. Raises OSError."""
    alike: dict[int, list[Request]] = {}
    for request in requests:
        alike.setdefault(id(request.content), []).append(request)
    files = {}
    for key, those in alike.items():
        content, sha = those[0].content, hashlib.sha256()
        for buffer in content:
            sha.update(buffer)
        path = directory / f"{those[0].head.message_id.replace('/', '-')}.content"
        write_parcel(path, content)
        files[key] = ContentFile(path, sha.hexdigest(), path.stat().st_size, len(those))
    return [files[id(request.content)] for request in requests]
