"""A client's side of federated messages: requests are fetched, and each reply is handed in, over links that may
break.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Protocol

import msgspec

from edgebench.clock import now_ns
from edgebench.errors import describe_error
from edgebench.fabric.control import HttpClient, RefusedError
from edgebench.fabric.patience import Patience
from edgebench.fabric.transfer_threads import Transfer, TransferThreads
from edgebench.fabric.transfers import CalledOffError, fetch, hand_in, quoted
from edgebench.federated import notices
from edgebench.federated.content import Head, Parcel, read_parcel
from edgebench.federated.notices import LONGEST_REASON, Asked, Delivered, FromClient, MalformedError, Refused

_log = logging.getLogger(__name__)
_ENDED_KEPT = 16
_NOT_WANTED = frozenset({404, 410})
"""By these a server says that it wants no reply any more."""
_STALLED_S = 10.0


class Received(msgspec.Struct, frozen=True):
    """A request that has arrived. The file of its content is there until it is answered or cancelled."""

    head: Head
    path: Path
    received_ns: int

    @property
    def message_id(self) -> str:
        """Tells it from all others."""
        return self.head.message_id

    def parcel(self) -> Parcel:
        """The message. Raises ContentError, and OSError where it has been cancelled meanwhile."""
        return Parcel(self.head, read_parcel(self.path).content)


class Scheduler(Protocol):
    """What is needed of a reactor."""

    def call_soon_threadsafe(self, call: Callable[[], None]) -> None:
        """Call from the reactor's thread as soon as it can; from any thread."""


class ContentFiles:
    """The contents of requests, by their SHA-256. Clients of one process that are asked the same each fetch it, over
    their own links; it is kept but once. From any thread."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._directory = directory
        self._lock = threading.Lock()
        self._users: dict[str, int] = {}

    def path(self, digest: str) -> Path:
        """Where a content is, or is to be."""
        return self._directory / f"{digest}.content"

    def hold(self, digest: str) -> bool:
        """Keep a content for one user more, if it is here."""
        with self._lock:
            if digest not in self._users:
                return False
            self._users[digest] += 1
            return True

    def add(self, digest: str, path: Path) -> None:
        """Take a content over, for a user; another may have brought the same meanwhile."""
        with self._lock:
            if digest in self._users:
                path.unlink()
            else:
                path.replace(self.path(digest))
            self._users[digest] = self._users.get(digest, 0) + 1

    def release(self, digest: str) -> None:
        """A user needs it no more."""
        with self._lock:
            self._users[digest] -= 1
            if not self._users[digest]:
                del self._users[digest]
                self.path(digest).unlink(missing_ok=True)

    def close(self) -> None:
        """Delete all."""
        with self._lock:
            for digest in self._users:
                self.path(digest).unlink(missing_ok=True)
            self._users.clear()


class _Message:
    """A request without an end: it is fetched, then with its client, then its reply is handed in."""

    def __init__(self, notice: Asked) -> None:
        self.notice = notice
        self.transfer: Transfer | None = None
        self.received: Received | None = None
        self.reply: Path | None = None


class MessageClient:
    """One client. Everything runs in the reactor's thread, but transfers."""

    def __init__(
        self,
        reactor: Scheduler,
        send: Callable[[bytes], bool],
        transfers: TransferThreads,
        url: str,
        contents: ContentFiles,
        *,
        on_request: Callable[[Received], None],
        on_cancelled: Callable[[Received], None],
    ) -> None:
        """send(notice): to the server; False where there is no connection. url: of the server's files. on_cancelled:
        the server does not want the answer any more."""
        self.rejected = 0
        self._reactor = reactor
        self._send = send
        self._transfers = transfers
        self._url = url
        self._contents = contents
        self._on_request = on_request
        self._on_cancelled = on_cancelled
        self._open: dict[str, _Message] = {}
        self._ended: dict[str, str | None] = {}
        transfers.share(url)

    def feed(self, payload: bytes) -> None:
        """Take a notice of the server."""
        try:
            notice = notices.from_server(payload)
        except MalformedError:
            self.rejected += 1
            return
        message = self._open.get(notice.message_id)
        if not isinstance(notice, Asked):
            if message is not None:
                self._drop(message)
        elif message is None:
            self._asked(notice)
        elif message.received is not None:
            self._tell(Delivered(notice.message_id))
        elif message.transfer is not None:
            message.transfer.hurry()

    def answer(self, received: Received, reply: Path) -> None:
        """Hand the reply in. Its file is deleted when it has arrived, or nobody wants it any more."""
        message = self._open.get(received.message_id)
        if message is None:
            reply.unlink(missing_ok=True)
            return
        self._contents.release(message.notice.digest)
        message.reply = reply
        self._begin(message, partial(self._hand_in, message, reply), self._handed_in)

    def reconnected(self) -> None:
        """Go on at once with what is unfinished: the way to the server is there again, and may be another."""
        for message in self._open.values():
            if message.transfer is not None:
                message.transfer.hurry(_STALLED_S)

    def close(self) -> None:
        """Forget everything that is open, and delete its replies; what is under way is called off."""
        for message in self._open.values():
            if message.transfer is not None:
                message.transfer.call_off()
            if message.reply is not None:
                message.reply.unlink(missing_ok=True)
        self._open.clear()

    def _asked(self, notice: Asked) -> None:
        if notice.message_id in self._ended:
            refusal = self._ended[notice.message_id]
            if refusal is not None:
                self._tell(Refused(notice.message_id, refusal))
            return
        message = self._open[notice.message_id] = _Message(notice)
        self._begin(message, partial(self._fetch, message), self._fetched)

    def _begin(
        self,
        message: _Message,
        do: Callable[[HttpClient, Patience], None],
        done: Callable[[_Message, Exception | None], None],
    ) -> None:
        def ended(failure: Exception | None) -> None:
            self._reactor.call_soon_threadsafe(partial(done, message, failure))

        message.transfer = Transfer(do, ended)
        self._transfers.put(self._url, message.transfer)

    def _fetch(self, message: _Message, client: HttpClient, patience: Patience) -> None:
        """In a thread of the transfers."""
        notice = message.notice
        is_here = self._contents.hold(notice.digest)
        target = self._contents.path(f"{notice.digest}-{id(message):x}")
        path = f"/v1/requests/{quoted(notice.message_id)}"
        try:
            fetch(client, path, target, digest=notice.digest, keep=not is_here, patience=patience)
        except BaseException:
            if is_here:
                self._contents.release(notice.digest)
            raise
        if not is_here:
            self._contents.add(notice.digest, target)
        message.received = Received(notice.head, self._contents.path(notice.digest), now_ns())

    def _fetched(self, message: _Message, failure: Exception | None) -> None:
        if message.notice.message_id not in self._open:  # cancelled meanwhile
            if message.received is not None:
                self._contents.release(message.notice.digest)
        elif failure is not None or message.received is None:
            self._give_up(message, failure)
        else:
            message.transfer = None
            self._tell(Delivered(message.notice.message_id))
            self._on_request(message.received)

    def _hand_in(self, message: _Message, reply: Path, client: HttpClient, patience: Patience) -> None:
        """In a thread of the transfers."""
        hand_in(client, f"replies/{quoted(message.notice.message_id)}", reply, patience=patience)

    def _handed_in(self, message: _Message, failure: Exception | None) -> None:
        if message.reply is not None:
            message.reply.unlink(missing_ok=True)
        if message.notice.message_id not in self._open:
            return
        if failure is not None:
            self._give_up(message, failure)
        else:
            self._end(message, None)

    def _give_up(self, message: _Message, failure: Exception | None) -> None:
        if isinstance(failure, RefusedError) and failure.status in _NOT_WANTED:
            self._end(message, None)
        elif not isinstance(failure, CalledOffError):
            reason = describe_error(failure) if failure is not None else "it has failed"
            _log.error("message %s: %s", message.notice.message_id, reason)
            self._end(message, reason[:LONGEST_REASON])
            self._tell(Refused(message.notice.message_id, reason[:LONGEST_REASON]))

    def _drop(self, message: _Message) -> None:
        """The server does not want a reply."""
        self._end(message, None)
        if message.transfer is not None:
            message.transfer.call_off()
        elif message.received is not None:
            self._contents.release(message.notice.digest)
            self._on_cancelled(message.received)

    def _end(self, message: _Message, refusal: str | None) -> None:
        message_id = message.notice.message_id
        del self._open[message_id]
        self._ended[message_id] = refusal
        if len(self._ended) > _ENDED_KEPT:
            del self._ended[next(iter(self._ended))]

    def _tell(self, notice: FromClient) -> None:
        self._send(notices.encode(notice))
