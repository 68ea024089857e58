"""What a server of files has to give and to take, without HTTP: files that are offered, files on their way in, who
asks.

`transfer_routes` serves it by HTTP, `transfers` is the other side.
"""

from __future__ import annotations

import hashlib
import os
import re
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, NamedTuple, Protocol

import msgspec

from edgebench.topology.deployment import HERE

LARGEST_BYTES = 1 << 30
"""Of a model, and of what a federated message carries."""

BACKLOG = 1024
"""Connections that a server lets wait: a thousand clients may be asked at once."""

SEND_BUFFER_BYTES = 1 << 18
"""What the system takes of a file ahead of the network. Unlimited, it would take seconds of a slow link, in which it is
not known how far a transfer is, and one that is called off does not end."""

_DIGEST = re.compile(r"[0-9a-f]{64}")


class Refusal(Exception):
    """A request that is not granted. status: of HTTP."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


class Turn(msgspec.Struct, frozen=True):
    """What may set out of a file (see `turns`): so many bytes, now, in pieces; piece_s: from one to the next."""

    size_bytes: int
    piece_bytes: int
    piece_s: float


class Staged(msgspec.Struct, frozen=True):
    """How much of a file is here. kept: all of it, verified. turn: what is to be brought next, and how; None: all the
    rest."""

    have_bytes: int
    kept: bool
    turn: Turn | None = None


class Caller(msgspec.Struct, frozen=True):
    """What a token is good for: it speaks for these nodes, and comes from this machine."""

    nodes: frozenset[str]
    machine: str = HERE


class Callers:
    """Who may ask. Of a token only its SHA-256 is known here: so nobody is impersonated with what is known here, and
    how long it takes to find one tells nothing."""

    def __init__(self, callers: Mapping[str, Caller]) -> None:
        """callers: by `digest_of_token`."""
        self._callers = dict(callers)

    @staticmethod
    def of_tokens(tokens: Mapping[str, Caller]) -> Callers:
        """By the tokens themselves."""
        return Callers({digest_of_token(token): caller for token, caller in tokens.items()})

    def behind(self, authorization: str) -> Caller | None:
        """Who a request's `Authorization: Bearer TOKEN` speaks for; None for a stranger's."""
        return self._callers.get(digest_of_token(authorization.removeprefix("Bearer ")))

    def revoke(self, machine: str) -> None:
        """Know the tokens of a machine no more."""
        self._callers = {digest: caller for digest, caller in self._callers.items() if caller.machine != machine}


class Offered(NamedTuple):
    """A file to be fetched. body: its content, where that is in memory already. sent: told of what has gone of it."""

    path: Path
    size_bytes: int
    digest: str | None = None
    body: bytes | None = None
    sent: Callable[[int], None] = lambda _size_bytes: None


class Downloads(Protocol):
    """Files of one kind that may be fetched."""

    def find(self, nodes: frozenset[str], name: str) -> Offered:
        """The file of a name, for these nodes. Raises Refusal."""


class Uploads(Protocol):
    """Files of one kind that may be handed in."""

    async def expect(self, nodes: frozenset[str], name: str, digest: str, size_bytes: int) -> Upload | Staged:
        """Where it comes in, the same at each try, or what there is to say of it already. Raises Refusal, also of a
        file that is too large."""

    def keep(self, nodes: frozenset[str], name: str, upload: Upload) -> None:
        """It is here, whole and verified, as `upload.partial`. Raises Refusal."""


class Upload:
    """A file on its way in, whose beginning is in `partial`. From any thread.

    Of several connections that bring it, the last one does: what an earlier one had under way does no harm.
    carried_bytes: all that has come, what came again included.
    """

    def __init__(self, partial: Path, digest: str, size_bytes: int) -> None:
        """Goes on from what is in `partial`."""
        self.partial = partial
        self.digest = digest
        self.size_bytes = size_bytes
        self.have_bytes = partial.stat().st_size if partial.exists() else 0
        self.carried_bytes = 0
        self._sha = hashlib.sha256()
        self._hashed_bytes = 0
        self._bringer: object | None = None
        self._file: IO[bytes] | None = None
        self._over = False
        self._lock = threading.RLock()

    def begin(self, offset: int) -> object:
        """A connection brings the bytes from `offset` on; it is known by what is returned. Raises Refusal."""
        with self._lock:
            if self._over:
                raise Refusal(410, "it is not wanted any more")
            if not 0 <= offset <= self.have_bytes:
                raise Refusal(409, f"a piece for byte {offset}, but {self.have_bytes} are here")
            self.pause()
            self._bringer = object()
            return self._bringer

    def add(self, bringer: object, offset: int, piece: bytes) -> None:
        """Keep what is new of a piece. Raises Refusal where another brings it meanwhile, OSError without room."""
        with self._lock:
            self.carried_bytes += len(piece)
            if bringer is not self._bringer:
                raise Refusal(410 if self._over else 409, "it is not wanted any more, or comes by another connection")
            new = piece[self.have_bytes - offset :] if offset < self.have_bytes else piece
            if self.have_bytes + len(new) > self.size_bytes:
                raise Refusal(400, f"more than the {self.size_bytes} bytes that it is said to have")
            if new:
                self._file = self._file or open_to_append(self.partial)
                write_all(self._file, memoryview(new))
                if self._hashed_bytes == self.have_bytes:
                    self._sha.update(new)
                    self._hashed_bytes += len(new)
                self.have_bytes += len(new)

    @property
    def is_whole(self) -> bool:
        """Whether all of it is here, yet to be verified."""
        return self.have_bytes == self.size_bytes

    @property
    def is_hashed(self) -> bool:
        """Whether `is_sound` is known without reading it again."""
        return self._hashed_bytes == self.have_bytes

    def is_sound(self) -> bool:
        """Whether it is what it was said to be; one that is not is thrown away, to come anew."""
        with self._lock:
            self.pause()
            if not self.size_bytes:
                self.partial.touch(0o600)
            sha = self._sha
            if not self.is_hashed:  # another process has taken the beginning
                with self.partial.open("rb") as file:
                    sha = hashlib.file_digest(file, "sha256")
            if sha.hexdigest() == self.digest:
                return True
            self.discard()
            return False

    def pause(self) -> None:
        """Nobody brings it just now."""
        with self._lock:
            self._bringer = None
            if self._file is not None:
                self._file.close()
                self._file = None

    def discard(self, *, over: bool = False) -> None:
        """Throw away what is here. over: and take no more."""
        with self._lock:
            self.pause()
            self.partial.unlink(missing_ok=True)
            self.have_bytes = self._hashed_bytes = 0
            self._sha = hashlib.sha256()
            self._over = over


def arriving(coming: dict[str, Upload], name: str, partial: Path, digest: str, size_bytes: int) -> Upload:
    """The upload of a name among those that are coming; begun anew where another file comes under that name."""
    upload = coming.get(name)
    if upload is not None and (upload.digest, upload.size_bytes) != (digest, size_bytes):
        upload.discard(over=True)
        upload = None
    if upload is None:
        upload = coming[name] = Upload(partial, digest, size_bytes)
    return upload


def digest_of_token(token: str) -> str:
    """By what a token is known."""
    return hashlib.sha256(token.encode()).hexdigest()


def is_digest(text: str) -> bool:
    """Whether it is a SHA-256: 64 hex digits and nothing else, since it becomes part of file names."""
    return _DIGEST.fullmatch(text) is not None


def open_to_append(path: Path) -> IO[bytes]:
    """A file of ours alone, made if there is none. Raises OSError, also where a link stands in its place."""
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW
    return os.fdopen(os.open(path, flags, 0o600), "ab", buffering=0)


def write_all(file: IO[bytes], data: memoryview) -> None:
    """To an unbuffered file, which may take less at once. Raises OSError where there is no room."""
    while data:
        data = data[file.write(data) :]
