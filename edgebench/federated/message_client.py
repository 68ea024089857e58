"""A client's side of federated messages: requests are fetched, and replies are handed in, over links that may break.

Clients of one process to which the same way leads, since no link of their own is emulated, fetch once what they are all
asked, and may hand replies in together.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
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
from edgebench.federated.message_files import replies_name
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
    """The contents of requests, by their SHA-256. Clients of one process that are asked the same fetch it once where
    they share a way, else each over its own link; it is kept but once. From any thread, but for `bring` and `brought`.
    """

    def __init__(self, directory: Path) -> None:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._directory = directory
        self._lock = threading.Lock()
        self._users: dict[str, int] = {}
        self._bringing: dict[tuple[str, str], list[Callable[[], None]]] = {}
        """By URL and digest: who waits for it. The reactor's."""

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
        """A user needs it no more. One whose fetch ends just after `close` has nothing left to let go of."""
        with self._lock:
            if digest not in self._users:
                return
            self._users[digest] -= 1
            if not self._users[digest]:
                del self._users[digest]
                self.path(digest).unlink(missing_ok=True)

    def bring(self, url: str, digest: str, again: Callable[[], None]) -> bool:
        """Whether whoever asks is to fetch a content; else another does so by the same way, and `again` is called when
        that has ended."""
        waiting = self._bringing.get((url, digest))
        if waiting is None:
            self._bringing[url, digest] = []
            return True
        waiting.append(again)
        return False

    def brought(self, url: str, digest: str) -> None:
        """Fetching it has ended, in whichever way."""
        for again in self._bringing.pop((url, digest), ()):
            again()

    def close(self) -> None:
        """Delete all."""
        with self._lock:
            for digest in self._users:
                self.path(digest).unlink(missing_ok=True)
            self._users.clear()


class _Message:
    """A request without an end: it is fetched, then with its client, then its reply is handed in. alone: and no other
    reply with it."""

    def __init__(self, notice: Asked) -> None:
        self.notice = notice
        self.alone = True
        self.transfer: Transfer | None = None
        self.fetched_ns: int | None = None
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
        by_turns: bool = False,
        shares_way: bool = False,
    ) -> None:
        """send(notice): to the server; False where there is no connection. url: of the server's files. on_cancelled:
        the server does not want the answer any more. by_turns: samples may be on the way there, too. shares_way: what
        another client fetches at this URL, to the same `contents`, is as good."""
        self.rejected = 0
        self._reactor = reactor
        self._send = send
        self._transfers = transfers
        self._url = url
        self._contents = contents
        self._on_request = on_request
        self._on_cancelled = on_cancelled
        self._by_turns = by_turns
        self._shares_way = shares_way
        self._open: dict[str, _Message] = {}
        self._ended: dict[str, str | None] = {}
        self._closed = False
        transfers.share(url)

    def feed(self, payload: bytes) -> None:
        """Take a notice of the server; after `close`, pass over it."""
        if self._closed:
            return
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
        answer_together([(self, received)], reply)

    def reconnected(self) -> None:
        """Go on at once with what is unfinished: the way to the server is there again, and may be another."""
        for message in self._open.values():
            if message.transfer is not None:
                message.transfer.hurry(_STALLED_S)

    def close(self) -> None:
        """Forget everything that is open, and delete its replies; what is under way is called off, unless others have
        a part in it."""
        for message in self._open.values():
            if message.transfer is not None and message.alone:
                message.transfer.call_off()
            if message.reply is not None and message.alone:
                message.reply.unlink(missing_ok=True)
        self._open.clear()
        self._closed = True

    def _asked(self, notice: Asked) -> None:
        if notice.message_id in self._ended:
            refusal = self._ended[notice.message_id]
            if refusal is not None:
                self._tell(Refused(notice.message_id, refusal))
            return
        message = self._open[notice.message_id] = _Message(notice)
        self._get(message)

    def _get(self, message: _Message) -> None:
        """Have its content fetched, unless it is here, or on its way, by the same way."""
        digest = message.notice.digest
        if self._open.get(message.notice.message_id) is not message:
            return  # cancelled while another fetched it
        if self._shares_way and self._contents.hold(digest):
            self._has(message)
        elif not self._shares_way or self._contents.bring(self._url, digest, partial(self._get, message)):
            self._begin([message], partial(self._fetch, message), partial(self._fetched, message))

    def _begin(
        self,
        messages: Sequence[_Message],
        do: Callable[[HttpClient, Patience], None],
        done: Callable[[Exception | None], None],
    ) -> None:
        def ended(failure: Exception | None) -> None:
            self._reactor.call_soon_threadsafe(partial(done, failure))

        transfer = Transfer(do, ended)
        for message in messages:
            message.transfer = transfer
        self._transfers.put(self._url, transfer)

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
        message.fetched_ns = now_ns()

    def _fetched(self, message: _Message, failure: Exception | None) -> None:
        digest = message.notice.digest
        if self._shares_way:
            self._contents.brought(self._url, digest)  # before it is let go of
        if message.notice.message_id not in self._open:  # cancelled meanwhile
            if failure is None:
                self._contents.release(digest)
        elif failure is not None:
            self._give_up(message, failure)
        else:
            message.transfer = None
            self._has(message)

    def _has(self, message: _Message) -> None:
        notice = message.notice
        received_ns = message.fetched_ns or now_ns()
        message.received = Received(notice.head, self._contents.path(notice.digest), received_ns)
        self._tell(Delivered(notice.message_id))
        self._on_request(message.received)

    def _hand_in(self, name: str, replies: Path, client: HttpClient, patience: Patience) -> None:
        """In a thread of the transfers."""
        hand_in(client, f"replies/{quoted(name)}", replies, patience=patience, by_turns=self._by_turns)

    def _handed_in(self, message: _Message, failure: Exception | None) -> None:
        if message.notice.message_id not in self._open:
            return
        if failure is not None:
            self._give_up(message, failure)
        else:
            self._end(message, None)

    def _give_up(self, message: _Message, failure: Exception) -> None:
        if isinstance(failure, RefusedError) and failure.status in _NOT_WANTED:
            self._end(message, None)
        elif not isinstance(failure, CalledOffError):
            reason = describe_error(failure)
            _log.error("message %s: %s", message.notice.message_id, reason)
            self._end(message, reason[:LONGEST_REASON])
            self._tell(Refused(message.notice.message_id, reason[:LONGEST_REASON]))

    def _drop(self, message: _Message) -> None:
        """The server does not want a reply."""
        self._end(message, None)
        if message.transfer is not None:
            if message.alone:
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


def answer_together(answered: Sequence[tuple[MessageClient, Received]], replies: Path) -> None:
    """Hand in a file of the replies of several clients, in the reactor's thread; all have the same way to the server.

    It is deleted when it has arrived, or nobody wants it any more. What has been cancelled of it travels along.
    """
    wanted = [
        (client, message)
        for client, received in answered
        if (message := client._open.get(received.message_id)) is not None
    ]
    if not wanted:
        replies.unlink(missing_ok=True)
        return
    for client, message in wanted:
        client._contents.release(message.notice.digest)
        message.reply, message.alone = replies, len(answered) == 1

    def ended(failure: Exception | None) -> None:
        replies.unlink(missing_ok=True)
        for client, message in wanted:
            client._handed_in(message, failure)

    first, _ = wanted[0]
    name = replies_name([message.notice.message_id for _, message in wanted])
    first._begin([message for _, message in wanted], partial(first._hand_in, name, replies), ended)
