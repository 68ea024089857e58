"""A node's side of the control plane: HTTP with the standard library alone, since a device has little memory."""

from __future__ import annotations

import hashlib
import http.client
import logging
import urllib.parse
from pathlib import Path
from types import TracebackType

import msgspec

from edgebench.clock import now_s, sleep_s
from edgebench.errors import FabricError, ModelError
from edgebench.fabric.slices import Heartbeat, LiveState, RunState, Slice

_log = logging.getLogger(__name__)
_TIMEOUT_S = 10.0
_CHUNK_BYTES = 1 << 18
_DOWNLOAD_TRIES = 8
_MAKING_PATIENCE_S = 900.0


class ControlClient:
    """Speaks for one process; the token says for which nodes. Not thread-safe: one client a thread."""

    def __init__(self, url: str, token: str) -> None:
        self.url = url
        self._token = token
        self._connection: http.client.HTTPConnection | None = None

    def slice_of(self, nodes: list[str]) -> Slice:
        """The deployment slice of these nodes. Raises FabricError where the cloud does not answer, or refuses."""
        return msgspec.json.decode(self._request("POST", "/v1/slice", msgspec.json.encode(nodes)), type=Slice)

    def beat(self, heartbeat: Heartbeat) -> RunState:
        """Report, and learn how the run stands."""
        return msgspec.json.decode(
            self._request("POST", "/v1/heartbeat", msgspec.json.encode(heartbeat)), type=RunState
        )

    def state(self) -> LiveState:
        """How the run stands, for watchers."""
        return msgspec.json.decode(self._request("GET", "/v1/state"), type=LiveState)

    def upload_records(self, name: str, path: Path) -> None:
        """Hand a finished spool over."""
        self._request("PUT", f"/v1/records/{urllib.parse.quote(name)}", path.read_bytes())

    def download(self, path: str, target: Path) -> Path:
        """Fetch a file of the control plane to `target`; waits while the cloud is still making it."""
        deadline_s = now_s() + _MAKING_PATIENCE_S
        while True:
            response = self._send("GET", path)
            if response.status == 200:
                partial = target.with_suffix(".part")
                with partial.open("wb") as file:
                    while chunk := response.read(_CHUNK_BYTES):
                        file.write(chunk)
                return partial.replace(target)
            body = response.read()
            if response.status != 503 or now_s() > deadline_s:
                raise FabricError(f"{self.url}{path}: the cloud answers {response.status}: {_first_line(body)}")
            sleep_s(0.2)

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

    def _request(self, method: str, path: str, body: bytes | None = None) -> bytes:
        response = self._send(method, path, body)
        try:
            answer = response.read()
        except (OSError, http.client.HTTPException) as error:
            self.close()
            raise FabricError(f"{self.url}: the cloud breaks off: {error}") from error
        if response.status != 200:
            raise FabricError(f"{self.url}{path}: the cloud answers {response.status}: {_first_line(answer)}")
        return answer

    def _send(self, method: str, path: str, body: bytes | None = None) -> http.client.HTTPResponse:
        headers = {"Authorization": f"Bearer {self._token}"}
        try:
            if self._connection is None:
                self._connection = connect(self.url, _TIMEOUT_S)
            self._connection.request(method, path, body, headers)
            return self._connection.getresponse()
        except (OSError, http.client.HTTPException) as error:
            self.close()
            raise FabricError(f"{self.url}: the cloud does not answer: {error}") from error


def connect(url: str, timeout_s: float) -> http.client.HTTPConnection:
    """An HTTP connection to the host of a URL."""
    parts = urllib.parse.urlsplit(url)
    if parts.scheme == "https":
        return http.client.HTTPSConnection(parts.hostname or "", parts.port, timeout=timeout_s)
    return http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=timeout_s)


def fetch_model(base_url: str, token: str, digest: str, size_bytes: int, target: Path) -> Path:
    """Download a model to `target`, picking up where a broken transfer left off, and verify its SHA-256.

    Raises ModelError where it cannot be had whole.
    """
    partial = target.with_suffix(".part")
    error: Exception | None = None
    for attempt in range(_DOWNLOAD_TRIES):
        if attempt:
            sleep_s(min(2.0, 0.1 * 2**attempt))
        try:
            _resume(base_url, token, digest, size_bytes, partial)
        except (OSError, http.client.HTTPException) as caught:
            _log.warning("model %s: the transfer broke off at %d bytes: %s", digest[:12], _size(partial), caught)
            error = caught
            continue
        if hashlib.sha256(partial.read_bytes()).hexdigest() == digest:
            return partial.replace(target)
        partial.unlink()
        error = ValueError("its SHA-256 is another")
    raise ModelError(f"model {digest[:12]} cannot be fetched from {base_url}: {error}")


def _resume(base_url: str, token: str, digest: str, size_bytes: int, partial: Path) -> None:
    have = _size(partial)
    if have >= size_bytes:
        return
    connection = connect(base_url, _TIMEOUT_S)
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
        if _size(partial) != size_bytes:
            raise http.client.IncompleteRead(b"", size_bytes - _size(partial))
    finally:
        connection.close()


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _first_line(body: bytes) -> str:
    return body.decode(errors="replace").strip().split("\n", 1)[0][:200]
