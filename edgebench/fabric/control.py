"""A node's side of the control plane: HTTP with the standard library alone, since a device has little memory."""

from __future__ import annotations

import hashlib
import http.client
import logging
import urllib.parse
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, TypeVar

import msgspec

from edgebench.clock import now_ns, now_s
from edgebench.core.clocks import Exchange
from edgebench.errors import FabricError, ModelError
from edgebench.fabric.endpoints import parse_http_url
from edgebench.fabric.patience import Patience
from edgebench.fabric.slices import Beaten, Heartbeat, LiveState, RunState, Slice, Staged
from edgebench.fabric.tls import HttpsConnection, Trust, context_to
from edgebench.inference.spec import Manifest

_log = logging.getLogger(__name__)
_TIMEOUT_S = 10.0
_CHUNK_BYTES = 1 << 18
_PATIENCE_S = 60.0
_MAKING_PATIENCE_S = 900.0
_TRIES_IN_PATIENCE = 3
"""At the least: one that times out is not the last."""
_Answer = TypeVar("_Answer", Slice, Beaten, LiveState)


class _BrokenOff(FabricError):
    """The connection failed, which another try may mend."""


class _Sent:
    """A file as it is sent: each piece of it is a gain."""

    def __init__(self, file: IO[bytes], patience: Patience) -> None:
        self._file = file
        self._patience = patience

    def read(self, size_bytes: int = -1, /) -> bytes:
        """For `http.client`, which asks for the next piece when it has sent the one before."""
        self._patience.gained(self._file.tell())
        return self._file.read(size_bytes)


class RefusedError(FabricError):
    """An answer that another try will not change: no such token, not for these nodes, no such thing."""


class ControlClient:
    """Speaks for one process; the token says for which nodes. Not thread-safe: one client a thread."""

    def __init__(self, url: str, token: str, *, patience_s: float = _PATIENCE_S, trust: Trust | None = None) -> None:
        """patience_s: how long a transfer is tried again while nothing comes of it. trust: as `connect` has it."""
        self.url = url
        self._trust = trust
        self._token = token
        self._patience_s = patience_s
        self._connection: http.client.HTTPConnection | None = None

    def slice_of(self, nodes: list[str]) -> Slice:
        """The deployment slice of these nodes. Raises FabricError where the cloud does not answer, or refuses."""
        return self._asked("POST", "/v1/slice", Slice, nodes)

    def beat(self, heartbeat: Heartbeat) -> tuple[RunState, Exchange]:
        """Report, and learn how the run stands; with the stamps of both clocks."""
        body = msgspec.json.encode(heartbeat)
        sent_ns = now_ns()
        response = self._send("POST", "/v1/heartbeat", body, {})
        received_ns = now_ns()
        beaten = self._decoded("/v1/heartbeat", self._checked("/v1/heartbeat", response), Beaten)
        return beaten.state, Exchange(sent_ns, beaten.received_ns, beaten.sent_ns, received_ns)

    def state(self) -> LiveState:
        """How the run stands, for watchers."""
        return self._asked("GET", "/v1/state", LiveState)

    def report_dead(self, nodes: list[str]) -> None:
        """Tell the cloud that devices have died, so that it does not wait for them; for the executor only."""
        self._request("POST", "/v1/dead", msgspec.json.encode(nodes))

    def upload_records(self, name: str, path: Path) -> None:
        """Hand a finished spool over; where the connection breaks, again.

        Raises FabricError where the cloud refuses, or for `patience_s` no more of it could be sent.
        """
        patience = Patience(self._patience_s)
        while True:
            try:
                with path.open("rb") as file:
                    size = {"Content-Length": str(path.stat().st_size)}
                    self._request("PUT", f"/v1/records/{urllib.parse.quote(name)}", _Sent(file, patience), size)
            except _BrokenOff as error:
                if patience.over:
                    raise
                _log.warning("%s; trying again", error)
                patience.pause()
            else:
                return

    def download(self, path: str, target: Path) -> Path:
        """Fetch a file of the control plane to `target`; waits while the cloud is still making it.

        Raises FabricError where the cloud refuses, or nothing more has come for `patience_s`.
        """
        partial = target.with_suffix(".part")
        self._fetch(path, partial)
        return partial.replace(target)

    def download_range(self, path: str, target: Path, start: int, end: int) -> None:
        """Fetch bytes `start` to `end` (or to its last) of a file of the control plane to the same place in `target`.

        That gets the length of the whole; what is never fetched is a hole, which takes no room. Raises FabricError as
        `download` does.
        """
        target.touch()
        self._fetch(path, target, (start, end))

    def _fetch(self, path: str, target: Path, extent: tuple[int, int] | None = None) -> None:
        """Try until it is fetched."""
        patience = Patience(self._patience_s)
        deadline_s = now_s() + _MAKING_PATIENCE_S
        while True:
            try:
                if self._downloaded(path, target, extent, patience):
                    return
                patience.renew()  # it is still being made
            except _BrokenOff as error:
                if patience.over:
                    raise
                _log.warning("%s; trying again", error)
            if now_s() > deadline_s:
                raise FabricError(f"{self.url}{path}: the cloud did not make it in {_MAKING_PATIENCE_S:.0f} s")
            patience.pause()

    def _downloaded(self, path: str, target: Path, extent: tuple[int, int] | None, patience: Patience) -> bool:
        """One try; False while the file is still being made."""
        ranged = {} if extent is None else {"Range": f"bytes={extent[0]}-{extent[1] - 1}"}
        response = self._send("GET", path, None, ranged)
        if response.status != (200 if extent is None else 206):
            body = self._body(response)
            if response.status == 503:
                return False
            raise self._error(path, response.status, body)
        expected, size_bytes = response.length, 0
        with target.open("wb" if extent is None else "r+b") as file:
            if extent is not None:
                file.truncate(_whole_bytes(response))
                file.seek(extent[0])
            while chunk := self._body(response, _CHUNK_BYTES):
                size_bytes += len(chunk)
                file.write(chunk)
                patience.gained(size_bytes)
        # A read of so many bytes ends at a lost connection as it does at the end of the file.
        if expected is not None and size_bytes != expected:
            self.close()
            raise _BrokenOff(f"{self.url}{path}: the transfer breaks off at {size_bytes} of {expected} bytes")
        return True

    def close(self) -> None:
        """Drop the connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def __enter__(self) -> ControlClient:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _asked(self, method: str, path: str, answer: type[_Answer], question: object = None) -> _Answer:
        body = self._request(method, path, None if question is None else msgspec.json.encode(question))
        return self._decoded(path, body, answer)

    def _decoded(self, path: str, body: bytes, answer: type[_Answer]) -> _Answer:
        try:
            return msgspec.json.decode(body, type=answer)
        except msgspec.DecodeError as error:
            raise RefusedError(f"{self.url}{path}: what answers is no cloud of edgebench: {error}") from error

    def _request(
        self, method: str, path: str, body: bytes | _Sent | None = None, headers: Mapping[str, str] = {}
    ) -> bytes:
        return self._checked(path, self._send(method, path, body, headers))

    def _checked(self, path: str, response: http.client.HTTPResponse) -> bytes:
        answer = self._body(response)
        if response.status != 200:
            raise self._error(path, response.status, answer)
        return answer

    def _error(self, path: str, status: int, body: bytes) -> FabricError:
        kind = RefusedError if 400 <= status < 500 else FabricError
        return kind(f"{self.url}{path}: the cloud answers {status}: {_first_line(body)}")

    def _body(self, response: http.client.HTTPResponse, most_bytes: int | None = None) -> bytes:
        try:
            return response.read(most_bytes)
        except (OSError, http.client.HTTPException) as error:
            self.close()
            raise _BrokenOff(f"{self.url}: the cloud breaks off: {error}") from error

    def _send(
        self, method: str, path: str, body: bytes | _Sent | None, headers: Mapping[str, str]
    ) -> http.client.HTTPResponse:
        try:
            if self._connection is None:
                self._connection = connect(self.url, self._patience_s, self._trust)
            self._connection.request(method, path, body, {"Authorization": f"Bearer {self._token}", **headers})
            return self._connection.getresponse()
        except (OSError, UnicodeError, http.client.HTTPException) as error:  # the second: of what is no host's name
            self.close()
            raise _BrokenOff(f"{self.url}: the cloud does not answer: {error}") from error


def connect(url: str, patience_s: float, trust: Trust | None = None) -> http.client.HTTPConnection:
    """An HTTP connection to the host of a URL, silent for a part of the patience at most.

    trust: by which TLS is spoken to a machine of a lab; None for that of the environment. Raises FabricError.
    """
    timeout_s = min(_TIMEOUT_S, patience_s / _TRIES_IN_PATIENCE)
    at = parse_http_url(url)
    if at.tls:
        name = at.server_name or at.host
        context = context_to(name, trust)
        return HttpsConnection(at.host, at.port, context=context, server_name=name, timeout_s=timeout_s)
    return http.client.HTTPConnection(at.host, at.port, timeout=timeout_s)


def fetch_model(
    base_url: str, token: str, digest: str, size_bytes: int, target: Path, *, patience_s: float = _PATIENCE_S
) -> Path:
    """Download a model to `target`, picking up where a broken transfer left off, and verify its SHA-256.

    Raises ModelError where it is not to be had, nothing more has come for `patience_s`, or what comes is another file.
    """
    partial = target.with_suffix(".part")
    patience = Patience(patience_s)
    mismatches = 0
    while True:
        try:
            _resume(base_url, token, digest, size_bytes, partial, patience)
        except (OSError, http.client.HTTPException) as error:
            if patience.over:
                raise ModelError(f"model {digest[:12]} cannot be fetched from {base_url}: {error}") from error
            _log.warning("model %s: the transfer broke off at %d bytes: %s", digest[:12], _size(partial), error)
            patience.pause()
            continue
        if hashlib.sha256(partial.read_bytes()).hexdigest() == digest:
            return partial.replace(target)
        # The beginning may have been left by another; what was fetched whole is what there is.
        partial.unlink()
        mismatches += 1
        if mismatches == 2:
            raise ModelError(f"model {digest[:12]} cannot be fetched from {base_url}: its SHA-256 is another")


def _resume(base_url: str, token: str, digest: str, size_bytes: int, partial: Path, patience: Patience) -> None:
    have = _size(partial)
    if have >= size_bytes:
        return
    connection = connect(base_url, patience.patience_s)
    headers = {"Authorization": f"Bearer {token}", "Range": f"bytes={have}-"}
    try:
        connection.request("GET", f"/v1/models/{digest}", headers=headers)
        response = connection.getresponse()
        if 400 <= response.status < 500:
            raise ModelError(f"model {digest[:12]} is not to be had from {base_url}: {_first_line(response.read())}")
        if response.status not in (200, 206):
            raise http.client.HTTPException(f"status {response.status}")
        with partial.open("ab" if response.status == 206 else "wb") as file:
            while chunk := response.read(_CHUNK_BYTES):
                file.write(chunk)
                patience.gained(file.tell())
        if _size(partial) != size_bytes:
            raise http.client.IncompleteRead(b"", size_bytes - _size(partial))
    finally:
        connection.close()


def upload_model(base_url: str, token: str, path: Path, manifest: Manifest, *, patience_s: float = _PATIENCE_S) -> None:
    """Put a model into the registry behind a control plane; a broken transfer goes on where it left off.

    SHA-256 is compared here before, and there after the transfer; what does not fit there is sent again.
    Raises ModelError where the file is not the one described, is refused, or gets no further for `patience_s`.
    """
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if (digest, path.stat().st_size) != (manifest.digest, manifest.size_bytes):
        raise ModelError(f"{path}: is not the model {manifest.digest[:12]} that its manifest describes")
    patience = Patience(patience_s)
    while True:
        connection = connect(base_url, patience_s)
        try:
            _upload_rest(connection, token, path, manifest, patience)
            return
        except (OSError, http.client.HTTPException) as error:
            if patience.over:
                raise ModelError(f"model {digest[:12]} cannot be put into {base_url}: {error}") from error
            _log.warning("model %s: the upload broke off: %s", digest[:12], error)
        finally:
            connection.close()
        patience.pause()


def _upload_rest(
    connection: http.client.HTTPConnection, token: str, path: Path, manifest: Manifest, patience: Patience
) -> None:
    headers = {"Authorization": f"Bearer {token}"}
    place = f"/v1/models/{manifest.digest}"

    def answer() -> bytes:
        response = connection.getresponse()
        body = response.read()
        if response.status == 200:
            return body
        problem = f"status {response.status}: {_first_line(body)}"
        # 422: what arrived is another file, and is forgotten. 409: there is less than this side thought.
        if response.status in (409, 422) or response.status >= 500:
            raise http.client.HTTPException(problem)
        raise ModelError(f"model {manifest.digest[:12]} is refused: {problem}")

    connection.request("GET", f"{place}/upload", headers=headers)
    there = msgspec.json.decode(answer(), type=Staged)
    if there.kept:
        return
    patience.gained(there.have_bytes)
    if there.have_bytes < manifest.size_bytes:
        with path.open("rb") as file:
            file.seek(there.have_bytes)
            rest = {"Content-Length": str(manifest.size_bytes - there.have_bytes)}
            connection.request("PUT", f"{place}?offset={there.have_bytes}", file, headers | rest)
            answer()
    connection.request("POST", place, msgspec.json.encode(manifest), headers)
    answer()


def _whole_bytes(response: http.client.HTTPResponse) -> int:
    """The length of the file that a response holds a range of: `Content-Range: bytes 0-99/12345`."""
    return int((response.getheader("Content-Range") or "").rpartition("/")[2])


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _first_line(body: bytes) -> str:
    return body.decode(errors="replace").strip().split("\n", 1)[0][:200]
