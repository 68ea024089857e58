"""A node's side of HTTP, with the standard library alone, since a device has little memory: one connection that is
kept, and what is asked of the control plane. Files go by `transfers`.
"""

from __future__ import annotations

import http.client
import socket
import struct
from collections.abc import Callable, Mapping
from contextlib import suppress
from types import TracebackType
from typing import IO, Any, NamedTuple, Self, TypeVar

import msgspec

from edgebench.clock import now_ns, now_s, sleep_s
from edgebench.core.clocks import Exchange
from edgebench.decoding import from_json
from edgebench.errors import FabricError
from edgebench.fabric.endpoints import encoded_host, parse_http_url
from edgebench.fabric.shelves import SEND_BUFFER_BYTES
from edgebench.fabric.slices import Beaten, Heartbeat, LiveState, RunState, Slice
from edgebench.fabric.tls import HttpsConnection, Trust, context_to

PATIENCE_S = 60.0
_TIMEOUT_S = 10.0
LONG_SILENCE_S = 120.0
"""For `timeout_s` of who fetches or hands in files: over a slow link much may be under way that is not answered yet, or
other files' turns come first; where one breaks, that is told at once."""
_TRIES_IN_PATIENCE = 3
"""At the least: one that times out is not the last."""
_PIECE_BYTES = 1 << 18
_RESET = struct.pack("ii", 1, 0)
_Answer = TypeVar("_Answer")


class BrokenOffError(FabricError):
    """The connection failed, which another try may mend."""


class RefusedError(FabricError):
    """An answer that another try will not change: no such token, not for these nodes, no such thing. status: of
    HTTP."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


class FilePart(NamedTuple):
    """Bytes of a file as a body. sent: is told of each piece that the system has taken. piece_s: from one piece to the
    next, at least."""

    file: IO[bytes]
    start: int
    size_bytes: int
    sent: Callable[[int], None]
    piece_bytes: int = _PIECE_BYTES
    piece_s: float = 0.0


class HttpClient:
    """Requests to one server, over a connection that is kept between them. The token says for which nodes.

    Not thread-safe (one client a thread), but for `interrupt`.
    """

    def __init__(
        self,
        url: str,
        token: str,
        *,
        patience_s: float = PATIENCE_S,
        timeout_s: float | None = None,
        trust: Trust | None = None,
    ) -> None:
        """patience_s: how long who uses it goes on while nothing comes of it, several times `timeout_s` at the least.
        timeout_s: how long the other side may be silent, unless given a part of the patience, 10 s at most. trust: as
        `connect` has it."""
        self.url = url
        self._trust = trust
        self._token = token
        self._timeout_s = min(_TIMEOUT_S, patience_s / _TRIES_IN_PATIENCE) if timeout_s is None else timeout_s
        self.patience_s = max(patience_s, _TRIES_IN_PATIENCE * self._timeout_s)
        self.called_off: Callable[[], bool] = lambda: False
        """Whether nothing more is to be asked; see `interrupt`."""
        self._connection: http.client.HTTPConnection | None = None

    def request(
        self, method: str, path: str, body: bytes | FilePart | None = None, headers: Mapping[str, str] = {}
    ) -> http.client.HTTPResponse:
        """Ask, and return the answer, whose body is to be read to its end. Raises BrokenOffError."""
        is_kept = self._connection is not None
        try:
            return self._asked(method, path, body, headers)
        except (OSError, UnicodeError, http.client.HTTPException) as error:  # the second: of what is no host's name
            if not is_kept or isinstance(body, FilePart) or isinstance(error, TimeoutError):
                raise self._broken_off(error) from error
        # A server may close, at any time, a connection on which nothing is asked.
        try:
            return self._asked(method, path, body, headers)
        except (OSError, http.client.HTTPException) as error:
            raise self._broken_off(error) from error

    def read_into(self, response: http.client.HTTPResponse, buffer: memoryview) -> int:
        """The next bytes of an answer, as they come; 0 at its end, or where the connection has ended before. Raises
        BrokenOffError."""
        try:
            # Not `readinto`, which waits until there is no more room: over a slow link a minute, and what came is lost
            # with the connection.
            data = response.read1(len(buffer))
        except (OSError, http.client.HTTPException) as error:
            self.close()
            raise BrokenOffError(f"{self.url}: it breaks off: {error}") from error
        if not data:
            response.close()  # which `read1` leaves out at the end of what was announced
        buffer[: len(data)] = data
        return len(data)

    def whole(self, response: http.client.HTTPResponse) -> bytes:
        """The rest of an answer. Raises BrokenOffError."""
        try:
            return response.read()
        except (OSError, http.client.HTTPException) as error:
            self.close()
            raise BrokenOffError(f"{self.url}: it breaks off: {error}") from error

    def ask(self, method: str, path: str, answer: type[_Answer], body: bytes | FilePart | None = None) -> _Answer:
        """The JSON that a request is answered by. Raises RefusedError, BrokenOffError, or another FabricError."""
        return self.decoded(path, self.request(method, path, body), answer)

    def decoded(self, path: str, response: http.client.HTTPResponse, answer: type[_Answer]) -> _Answer:
        """The JSON of an answer. Raises as `ask` does."""
        content = self.whole(response)
        if response.status != 200:
            raise self.error(path, response.status, content)
        try:
            return from_json(content, answer)
        except msgspec.DecodeError as error:
            raise RefusedError(f"{self.url}{path}: what answers is no cloud of edgebench: {error}", 200) from error

    def error(self, path: str, status: int, body: bytes) -> FabricError:
        """What an answer says that is none."""
        message = f"{self.url}{path.partition('?')[0]}: it answers {status}: {_first_line(body)}"
        return RefusedError(message, status) if 400 <= status < 500 else FabricError(message)

    def close(self) -> None:
        """Drop the connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def interrupt(self) -> None:
        """Break off what another thread asks just now; what it asks next goes by another connection.

        Until there is a connection there is none to break off: who is to end says so by `called_off` before.
        """
        sock = None if (connection := self._connection) is None else connection.sock
        if sock is not None:
            with suppress(OSError):  # it is closed already
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                # Not TLS' own, which would let the other thread read what is not decrypted.
                socket.socket.shutdown(sock, socket.SHUT_RDWR)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _asked(
        self, method: str, path: str, body: bytes | FilePart | None, headers: Mapping[str, str]
    ) -> http.client.HTTPResponse:
        headers = {"Authorization": f"Bearer {self._token}", **headers}
        try:
            connection = self._connected()
            if not isinstance(body, FilePart):
                connection.request(method, path, body, headers)
                return connection.getresponse()
            connection.request(method, path, None, {**headers, "Content-Length": str(body.size_bytes)})
            try:
                _send(connection.sock, body)
            except ConnectionError:
                # It may have been answered before all of it was taken.
                response = connection.getresponse()
                if response.status < 400:
                    raise
                return response
            return connection.getresponse()
        except BaseException:
            self.close()
            raise

    def _connected(self) -> http.client.HTTPConnection:
        if self._connection is None:
            self._connection = connect(self.url, min(_TIMEOUT_S, self._timeout_s), self._trust)
            self._connection.connect()
            self._connection.sock.settimeout(self._timeout_s)
        if self.called_off():
            raise ConnectionAbortedError("called off")
        return self._connection

    def _broken_off(self, error: Exception) -> BrokenOffError:
        return BrokenOffError(f"{self.url}: no answer: {error}")


class ControlClient(HttpClient):
    """Speaks to the control plane for one process."""

    def slice_of(self, nodes: list[str]) -> Slice:
        """The deployment slice of these nodes. Raises FabricError where the cloud does not answer, or refuses."""
        return self.ask("POST", "/v1/slice", Slice, msgspec.json.encode(nodes))

    def beat(self, heartbeat: Heartbeat) -> tuple[RunState, Exchange]:
        """Report, and learn how the run stands; with the stamps of both clocks."""
        body = msgspec.json.encode(heartbeat)
        sent_ns = now_ns()
        response = self.request("POST", "/v1/heartbeat", body)
        received_ns = now_ns()
        beaten = self.decoded("/v1/heartbeat", response, Beaten)
        return beaten.state, Exchange(sent_ns, beaten.received_ns, beaten.sent_ns, received_ns)

    def state(self) -> LiveState:
        """How the run stands, for watchers."""
        return self.ask("GET", "/v1/state", LiveState)

    def report_dead(self, nodes: list[str]) -> None:
        """Tell the cloud that devices have died, so that it does not wait for them; for the executor only."""
        self.ask("POST", "/v1/dead", str, msgspec.json.encode(nodes))

    def revoke(self, machine: str) -> None:
        """End the access of all that runs on a machine, at once; for the executor only."""
        self.ask("POST", "/v1/revoked", str, msgspec.json.encode(machine))


def connect(url: str, timeout_s: float, trust: Trust | None = None) -> http.client.HTTPConnection:
    """An HTTP connection to the host of a URL, silent for so long at most.

    trust: by which TLS is spoken to a machine of a lab; None for that of the environment. Raises FabricError.
    """
    at = parse_http_url(url)
    if at.tls:
        name = at.server_name or at.host
        context = context_to(name, trust)
        return HttpsConnection(at.host, at.port, context=context, server_name=name, timeout_s=timeout_s)
    return _PlainConnection(at.host, at.port, timeout=timeout_s)


class _PlainConnection(http.client.HTTPConnection):
    def connect(self) -> None:
        """As its base class does, by `encoded_host`."""
        address: Any = encoded_host(self.host), self.port
        self.sock = socket.create_connection(address, self.timeout)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def _send(sock: socket.socket, part: FilePart) -> None:
    """Send a part of a file without copying it, where the system can."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
    end = part.start + part.size_bytes
    due_s = now_s()
    for start in range(part.start, end, part.piece_bytes):
        if part.piece_s:
            sleep_s(max(0.0, due_s - now_s()))
            due_s = max(due_s + part.piece_s, now_s())
        size_bytes = min(part.piece_bytes, end - start)
        part.file.seek(start)  # Python does not for the first byte, where TLS has it read the file
        if sock.sendfile(part.file, start, size_bytes) != size_bytes:
            raise OSError(f"{part.file.name}: has become shorter")
        part.sent(size_bytes)


def _first_line(body: bytes) -> str:
    return body.decode(errors="replace").strip().split("\n", 1)[0][:200]
