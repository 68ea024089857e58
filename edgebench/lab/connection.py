"""Requests to a lab's server: HTTP over TLS with the standard library alone, since a board has little memory.

Bodies are MessagePack; a refusal is a line of text, and its status says of which kind it is.
"""

from __future__ import annotations

import contextlib
import http.client
import socket
import ssl
from collections.abc import Iterator
from typing import TypeVar
from urllib.parse import urlencode

import msgspec

from edgebench.clock import utc_now
from edgebench.decoding import from_msgpack
from edgebench.fabric.tls import HttpsConnection, tls_name
from edgebench.lab.addresses import LabUrl
from edgebench.lab.messages import STATUS, LabError
from edgebench.topology.deployment import HERE

_ANSWER_S = 10.0
_MOST_ANSWER_BYTES = 64 << 20
_OUT_OF_TIME = (9, 10)
"""What OpenSSL calls X509_V_ERR_CERT_NOT_YET_VALID and X509_V_ERR_CERT_HAS_EXPIRED."""
_Answer = TypeVar("_Answer")


class UnheardError(LabError):
    """The server does not answer, or the connection breaks off: another try may help."""


class LabConnection:
    """One connection, opened when it is needed and again after it broke. Not thread-safe."""

    def __init__(self, url: LabUrl, context: ssl.SSLContext) -> None:
        self.url = url
        self._context = context
        self._connection: HttpsConnection | None = None
        self._over = False
        self._stale = False

    def ask(
        self,
        method: str,
        path: str,
        answer: type[_Answer],
        question: object = None,
        *,
        wait_s: float = 0.0,
        **query: str | int | float,
    ) -> _Answer:
        """Ask, and have the answer. wait_s: how long the server may take of purpose.

        Raises UnheardError, or the LabError that the answer's status stands for.
        """
        body = b"" if question is None else msgspec.msgpack.encode(question)
        status, said = self._exchange(method, f"{path}?{urlencode(query)}" if query else path, body, wait_s)
        if status == 200:
            try:
                return from_msgpack(said, answer)
            except msgspec.DecodeError as error:
                raise UnheardError(f"{self.url}: what answers is no lab of edgebench: {error}") from error
        text = said.decode(errors="replace").strip().partition("\n")[0][:400]
        if status >= 500:
            raise UnheardError(f"{self.url}: the lab answers {status}: {text}")
        raise STATUS.get(status, LabError)(text or f"{self.url}: the lab answers {status}")

    @property
    def own_address(self) -> str:
        """This end's, while it is open; else empty."""
        sock = None if self._connection is None else self._connection.sock
        return "" if sock is None else str(sock.getsockname()[0])

    def hang_up(self) -> None:
        """From any thread: whoever waits for an answer gets UnheardError, and nothing is asked any more."""
        self._over = True
        sock = None if self._connection is None else self._connection.sock
        if sock is not None:
            with contextlib.suppress(OSError):  # it is broken already
                sock.shutdown(socket.SHUT_RDWR)

    def begin_anew(self) -> None:
        """From any thread: what is asked next goes by another connection, which shows the certificate of then."""
        self._stale = True

    def close(self) -> None:
        """Drop the connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _exchange(self, method: str, path: str, body: bytes, wait_s: float) -> tuple[int, bytes]:
        if self._stale:
            self._stale = False
            self.close()
        is_kept = self._connection is not None and self._connection.sock is not None
        with self._translated():
            try:
                return self._answer(method, path, body, wait_s)
            except (ConnectionError, ssl.SSLEOFError):
                # A server may close, at any time, a connection on which nothing is asked. What is asked on one that is
                # kept does no harm when it is asked twice.
                if not is_kept or self._over:
                    raise
            self.close()
            return self._answer(method, path, body, wait_s)

    def _answer(self, method: str, path: str, body: bytes, wait_s: float) -> tuple[int, bytes]:
        connection = self._opened()
        connection.sock.settimeout(_ANSWER_S + wait_s)
        connection.request(method, path, body)
        response = connection.getresponse()
        return response.status, response.read(_MOST_ANSWER_BYTES)

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except ssl.SSLCertVerificationError as error:
            self.close()
            if error.verify_code in _OUT_OF_TIME:
                # A board without a battery is told the time some seconds after it has started.
                told = f"by this machine's calendar, which says {utc_now():%Y-%m-%d}"
                mend = "set it, or wait until it has been told the time"
                raise UnheardError(f"{self.url}: the lab's {error.verify_message} {told} ({mend})") from error
            raise LabError(f"{self.url}: is not the server of this lab: {error.verify_message}") from error
        except (OSError, UnicodeError, http.client.HTTPException) as error:
            self.close()
            raise UnheardError(f"{self.url}: the lab does not answer: {describe(error)}") from error

    def _opened(self) -> HttpsConnection:
        if self._connection is None:
            self._connection = HttpsConnection(
                self.url.host, self.url.port, context=self._context, server_name=tls_name(HERE), timeout_s=_ANSWER_S
            )
        if self._connection.sock is None:  # not opened yet, or ended by the server after its last answer
            self._connection.connect()
        if self._over:
            raise ConnectionAbortedError("hung up")
        return self._connection


def describe(error: BaseException) -> str:
    """An error of a connection, for people."""
    if isinstance(error, ssl.SSLError):
        return (error.reason or str(error)).replace("_", " ").lower()
    return str(getattr(error, "strerror", None) or error) or type(error).__name__
