"""Moving a large thing by HTTP: files are fetched and handed in, go on where a broken connection left them, and are
compared with their SHA-256. In memory there is never more than a piece of one.

A download is a GET with a range (RFC 9110), whose digest is known beforehand or told by the server (`Repr-Digest`,
RFC 9530). An upload is a PUT from some byte on, after the server has said which that is.
"""

from __future__ import annotations

import base64
import hashlib
import http.client
import logging
import urllib.parse
from contextlib import ExitStack
from pathlib import Path
from typing import IO

import msgspec

from edgebench.errors import FabricError
from edgebench.fabric.control import BrokenOffError, FilePart, HttpClient, RefusedError
from edgebench.fabric.patience import Patience
from edgebench.fabric.shelves import Staged, open_to_append, write_all
from edgebench.inference.spec import Manifest

_log = logging.getLogger(__name__)
_PIECE_BYTES = 1 << 16
_EXTENT_BYTES = 1 << 23
"""Of a range that is compared with its digest as a whole."""
SMALL_BYTES = 1 << 20
"""What is handed in without asking before how much of it is there."""
_MAKING_PAUSE_S = 0.5
"""At most, between two questions whether it is made: the streams of a run wait for it."""
_MOST_WRONG = 2
"""The beginning of a file may have been left by another; what was fetched whole and is wrong is what there is."""


class CalledOffError(FabricError):
    """Nobody wants the transfer any more."""


def fetch(
    client: HttpClient,
    path: str,
    target: Path,
    *,
    digest: str | None = None,
    keep: bool = True,
    patience: Patience | None = None,
) -> int:
    """Fetch a file to `target`; waits while the server is still making it, however long first models take to train. The
    payload bytes that came for it.

    digest: its SHA-256, unless the server is to tell that. keep: otherwise the bytes are only compared with the digest.
    patience: unless it is the client's. Raises CalledOffError, FabricError where it is refused, is another file, or
    nothing more has come in the patience, and OSError where there is no room.
    """
    patience = patience or Patience(client.patience_s)
    carried_bytes = wrong = 0
    with ExitStack() as stack:
        incoming = _Incoming(target.with_name(target.name + ".part") if keep else None)
        stack.callback(incoming.close)
        while True:
            before_bytes = incoming.size_bytes
            try:
                said = _fetch_rest(client, path, incoming, patience)
            except BrokenOffError as error:
                carried_bytes += incoming.size_bytes - before_bytes
                _try_again(patience, error)
                continue
            carried_bytes += incoming.size_bytes - before_bytes
            if said is None:  # it is still being made
                patience.renew()
                patience.pause(_MAKING_PAUSE_S)
            elif incoming.digest == (digest or said):
                incoming.move_to(target)
                return carried_bytes
            else:
                incoming.forget()
                wrong += 1
                if wrong == _MOST_WRONG:
                    raise FabricError(f"{client.url}{path}: its SHA-256 is another")


def fetch_extent(client: HttpClient, path: str, target: Path, start: int, end: int) -> None:
    """Fetch bytes `start` to `end` (or to its last) of a file to the same place in `target`, in pieces that are
    compared.

    `target` gets the length of the whole; what is never fetched is a hole, which takes no room. Raises as `fetch` does.
    """
    patience = Patience(client.patience_s)
    target.touch(0o600)
    wrong = 0
    while start < end:
        until = min(end, start + _EXTENT_BYTES)
        try:
            piece = _fetch_extent(client, path, start, until, patience)
        except BrokenOffError as error:
            _try_again(patience, error)
            continue
        if piece is None:
            patience.renew()
            patience.pause(_MAKING_PAUSE_S)
            continue
        data, digest, whole_bytes = piece
        if hashlib.sha256(data).hexdigest() != digest:
            wrong += 1
            if wrong == _MOST_WRONG:
                raise FabricError(f"{client.url}{path}: the SHA-256 of bytes {start} to {until} is another")
            continue
        with target.open("r+b") as file:
            file.truncate(whole_bytes)
            file.seek(start)
            file.write(data)
        end = min(end, whole_bytes)
        start += len(data)


def hand_in(
    client: HttpClient, path: str, source: Path, *, patience: Patience | None = None, by_turns: bool = False
) -> int:
    """Hand a file in; the payload bytes that were sent for it. patience: unless it is the client's. by_turns: samples
    may be on the same way.

    Raises CalledOffError, FabricError where it is refused, or no more of it could be sent in the patience, and OSError
    where it cannot be read.
    """
    patience = patience or Patience(client.patience_s)
    with source.open("rb", buffering=0) as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        size_bytes = file.tell()
        place = f"/v1/uploads/{path}?sha256={digest}&size={size_bytes}"
        # Mostly all goes at once, or nothing of it is there yet.
        staged = Staged(0, kept=False) if size_bytes <= SMALL_BYTES and not by_turns else None
        sent = _Sent(patience)
        wrong = 0
        while True:
            try:
                if staged is None:
                    staged = client.ask("GET", place, Staged)
                while not staged.kept:
                    staged = _put(client, place, file, size_bytes, staged, sent)
                return sent.total_bytes
            except BrokenOffError as error:
                staged = None
                _try_again(patience, error)
            except RefusedError as error:
                # 409: less is there than this side thought. 422: what is there is another file, and was forgotten.
                wrong += 1
                if error.status not in (409, 422) or wrong == _MOST_WRONG:
                    raise
                staged = None


def upload_model(client: HttpClient, path: Path, manifest: Manifest) -> None:
    """Put a model into the registry behind a control plane.

    Raises FabricError where the file is not the one described, is refused, or gets no further in the patience.
    """
    patience = Patience(client.patience_s)
    while True:
        hand_in(client, f"models/{manifest.digest}", path, patience=patience)
        try:
            client.ask("POST", f"/v1/models/{manifest.digest}", str, msgspec.json.encode(manifest))
        except BrokenOffError as error:
            _try_again(patience, error)
        else:
            return


class _Incoming:
    """What has come of a file: how much, its digest, and where it is kept, if anywhere."""

    def __init__(self, path: Path | None) -> None:
        """Goes on from what is at `path`."""
        self.size_bytes = 0
        self._path = path
        self._sha = hashlib.sha256()
        self._file: IO[bytes] | None = None
        self._buffer: memoryview | None = None
        if path is not None and path.exists():
            with path.open("rb") as file:
                self._sha = hashlib.file_digest(file, hashlib.sha256)
                self.size_bytes = file.tell()

    @property
    def digest(self) -> str:
        return self._sha.hexdigest()

    def room(self, expected_bytes: int | None) -> memoryview:
        """For the next bytes."""
        if self._buffer is None:
            size_bytes = _PIECE_BYTES if expected_bytes is None else max(1, min(_PIECE_BYTES, expected_bytes))
            self._buffer = memoryview(bytearray(size_bytes))
        return self._buffer

    def add(self, data: memoryview) -> None:
        """Raises OSError where there is no room."""
        if self._path is not None:
            if self._file is None:
                self._file = open_to_append(self._path)
            write_all(self._file, data)
        self._sha.update(data)
        self.size_bytes += len(data)

    def forget(self) -> None:
        """Begin anew."""
        self.close()
        if self._path is not None:
            self._path.unlink(missing_ok=True)
        self.size_bytes = 0
        self._sha = hashlib.sha256()

    def move_to(self, target: Path) -> None:
        """It is whole."""
        self.close()
        if self._path is not None:
            if not self.size_bytes:
                self._path.touch(0o600)
            self._path.replace(target)

    def close(self) -> None:
        """What is kept stays."""
        self._buffer = None
        if self._file is not None:
            self._file.close()
            self._file = None


class _Sent:
    """Counts what goes: each piece is a gain."""

    def __init__(self, patience: Patience) -> None:
        self.total_bytes = 0
        self.at = 0
        self._patience = patience

    def piece(self, size_bytes: int) -> None:
        self.total_bytes += size_bytes
        self.at += size_bytes
        self._patience.gained(self.at)
        _check_wanted(self._patience)


def _put(client: HttpClient, place: str, file: IO[bytes], size_bytes: int, staged: Staged, sent: _Sent) -> Staged:
    """Bring what may be brought of the rest."""
    sent.at = staged.have_bytes
    rest_bytes = size_bytes - staged.have_bytes
    place = f"{place}&offset={staged.have_bytes}"
    turn = staged.turn
    if turn is None:
        return client.ask("PUT", place, Staged, FilePart(file, staged.have_bytes, rest_bytes, sent.piece))
    if turn.size_bytes < rest_bytes:
        place = f"{place}&more=1"
    size_bytes = min(turn.size_bytes, rest_bytes)
    part = FilePart(file, staged.have_bytes, size_bytes, sent.piece, turn.piece_bytes, turn.piece_s)
    return client.ask("PUT", place, Staged, part)


def _fetch_rest(client: HttpClient, path: str, incoming: _Incoming, patience: Patience) -> str | None:
    """One try; the digest that the server tells, or None while the file is still being made."""
    ranged = {"Range": f"bytes={incoming.size_bytes}-"} if incoming.size_bytes else {}
    response = client.request("GET", path, None, ranged)
    if response.status == 416 and incoming.size_bytes:
        # All of it is there; or more, of another file.
        client.whole(response)
        return _told(response, "Repr-Digest")
    if response.status == 200 and incoming.size_bytes:
        incoming.forget()
    elif response.status not in (200, 206):
        _check_being_made(client, path, response)
        return None
    expected_bytes, before_bytes = response.length, incoming.size_bytes
    room = incoming.room(expected_bytes)
    try:
        while got := client.read_into(response, room):
            incoming.add(room[:got])
            patience.gained(incoming.size_bytes)
            _check_wanted(patience)
    except BaseException:
        client.close()  # the rest of the answer is under way
        raise
    _check_whole(client, path, expected_bytes, incoming.size_bytes - before_bytes)
    return _told(response, "Repr-Digest")


def _fetch_extent(
    client: HttpClient, path: str, start: int, end: int, patience: Patience
) -> tuple[bytearray, str, int] | None:
    """One try: bytes, their digest, and the length of the whole; None while the file is still being made."""
    asked = {"Range": f"bytes={start}-{end - 1}", "Want-Content-Digest": "sha-256=1"}
    response = client.request("GET", path, None, asked)
    if response.status != 206:
        _check_being_made(client, path, response)
        return None
    expected_bytes, data = response.length, bytearray()
    room = memoryview(bytearray(_PIECE_BYTES))
    while got := client.read_into(response, room):
        data += room[:got]
        patience.gained(start + len(data))
    _check_whole(client, path, expected_bytes, len(data))
    # `Content-Range: bytes 0-99/12345`
    whole_bytes = int((response.getheader("Content-Range") or "").rpartition("/")[2])
    return data, _told(response, "Content-Digest"), whole_bytes


def _check_being_made(client: HttpClient, path: str, response: http.client.HTTPResponse) -> None:
    """Raises FabricError where the file is not just still being made."""
    body = client.whole(response)
    if response.status != 503:
        raise client.error(path, response.status, body)


def _check_whole(client: HttpClient, path: str, expected_bytes: int | None, got_bytes: int) -> None:
    # A read of so many bytes ends at a lost connection as it does at the end of the file.
    if expected_bytes is not None and got_bytes != expected_bytes:
        client.close()
        raise BrokenOffError(f"{client.url}{path}: the transfer breaks off at {got_bytes} of {expected_bytes} bytes")


def _told(response: http.client.HTTPResponse, field: str) -> str:
    """The SHA-256 in a digest field, hex; empty where there is none: `sha-256=:47DE…=:`."""
    for each in (response.getheader(field) or "").split(","):
        name, _, value = each.strip().partition("=")
        if name.lower() == "sha-256":
            try:
                return base64.b64decode(value.strip(":"), validate=True).hex()
            except ValueError:
                return ""
    return ""


def _check_wanted(patience: Patience) -> None:
    if patience.called_off:
        raise CalledOffError("the transfer was called off")


def _try_again(patience: Patience, error: BrokenOffError) -> None:
    """After a pause. Raises what went wrong where the patience is over, or CalledOffError."""
    _check_wanted(patience)
    if patience.over:
        raise error
    _log.warning("%s; trying again", error)
    patience.pause()
    _check_wanted(patience)


def quoted(*names: str) -> str:
    """Names as a path."""
    return "/".join(urllib.parse.quote(name, safe="") for name in names)
