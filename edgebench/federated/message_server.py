"""A server's side of federated messages: requests go to clients, and a worker thread waits for their replies.

The worker calls `submit`, `wait`, `take` and `give_up`; all else runs in the reactor's thread, unless it says
otherwise. A request ends in one of three ways: with a reply, with an error, or given up by the worker, who is told what
has gone and come until then.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple, Protocol

from edgebench.clock import now_ns
from edgebench.fabric.descriptors import allow_descriptors
from edgebench.fabric.reactor import Timer
from edgebench.federated import notices
from edgebench.federated.client_presence import ClientPresence, Delays
from edgebench.federated.content import ContentError, Parcel
from edgebench.federated.message_files import Announcement, Announcer, Carried, HandedIn
from edgebench.federated.notices import Asked, Cancelled, Delivered, FromServer, MalformedError
from edgebench.federated.requests import ContentFile, Reply, ReplyFile, Request, write_contents

OFFLINE = "offline"
REFUSED = "refused"
GARBAGE = "garbage"
UNREADABLE = "unreadable"
ERROR = "error"
CLOSED = "closed"

_TICK_S = 0.5
_FIRST_PATIENCE, _LONGEST_PATIENCE = 2, 16
"""Ticks without a sign of life before a client is asked again; the time doubles each time."""


class Scheduler(Delays, Protocol):
    """What is needed of a reactor."""

    def call_soon_threadsafe(self, call: Callable[[], None]) -> None:
        """Call from the reactor's thread as soon as it can; from any thread."""


class Files(Protocol):
    """Where contents are fetched and replies handed in: `MessageFiles`, or what stands for one in another process."""

    def announce(self, announcements: Sequence[Announcement], announcer: Announcer) -> None:
        """From now on the contents can be fetched."""

    def withdraw(self, message_ids: Iterable[str]) -> dict[str, Carried]:
        """They cannot, and no replies be handed in. What has gone and come for the messages that were open."""


class _Open:
    """A request without an end."""

    def __init__(self, request: Request, content: ContentFile) -> None:
        self.client = request.client
        self.head = request.head
        self.message_id = request.head.message_id
        self.content = content
        self.submitted_ns = now_ns()
        self.delivered_ns: int | None = None
        self.quiet = 0
        self.patience = _FIRST_PATIENCE

    @property
    def notice(self) -> Asked:
        return Asked(self.head, self.content.digest, self.content.size_bytes)


class _End(NamedTuple):
    request: _Open
    file: ReplyFile | None
    error: str | None
    at_ns: int
    carried: Carried

    def discard(self) -> None:
        if self.file is not None:
            self.file.release()


class _Waiter:
    def __init__(self, message_ids: set[str], lacking: int) -> None:
        self.message_ids = message_ids
        self.lacking = lacking
        self.over = threading.Event()


class MessageServer:
    """Requests to clients and their replies.

    late: replies that came, or began to, after their request had ended. rejected: what came as a notice and was none.
    failed: requests that ended without content, those given up apart, by kind: `offline`, `refused` by the client,
    `garbage` (a reply that is no parcel, or to another message), `unreadable` (a reply whose file cannot be read),
    `error` (that the client's reply tells), `closed`.
    """

    def __init__(self, reactor: Scheduler, send: Callable[[str, bytes], bool], files: Files, directory: Path) -> None:
        """send(client, notice): False where there is no connection. directory: for contents. The process may open more
        files from now on."""
        allow_descriptors()
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.late = 0
        self.rejected = 0
        self.failed: dict[str, int] = {}
        self._reactor = reactor
        self._send = send
        self._files = files
        self._directory = directory
        # The reactor's.
        self._open: dict[str, _Open] = {}
        self._presence = ClientPresence(reactor, came=self._came, stayed_away=self._stayed_away)
        self._tick_timer: Timer | None = None
        # Both threads'.
        self._closed = False
        self._lock = threading.Lock()
        self._unanswered: dict[str, _Open] = {}
        self._ends: dict[str, _End] = {}
        self._waiters: list[_Waiter] = []

    # For the worker.

    def submit(self, requests: Sequence[Request]) -> list[str]:
        """Send requests, and return their message ids. After `close` they end at once."""
        message_ids = [request.head.message_id for request in requests]
        with self._lock:
            known = self._unanswered.keys() | self._ends.keys()
        if len(set(message_ids)) < len(message_ids) or not known.isdisjoint(message_ids):
            raise ValueError("two requests have one message id")
        contents = write_contents(requests, self._directory)
        opened = [_Open(request, content) for request, content in zip(requests, contents, strict=True)]
        self._files.announce([_announcement(each) for each in opened], self)
        with self._lock:
            self._unanswered.update(zip(message_ids, opened, strict=True))
            closed = self._closed
        if closed:
            self._end_closed(opened)
            for request in opened:
                request.content.release()
        else:
            self._reactor.call_soon_threadsafe(partial(self._begin, opened))
        return message_ids

    def wait(self, message_ids: Collection[str], timeout_s: float, *, enough: int | None = None) -> None:
        """Wait until all of these requests have ended, or `enough` of them that have not been taken, or time is up."""
        with self._lock:
            unanswered = {message_id for message_id in message_ids if message_id in self._unanswered}
            lacking = len(unanswered)
            if enough is not None:
                lacking = min(lacking, enough - sum(message_id in self._ends for message_id in message_ids))
            if lacking <= 0:
                return
            waiter = _Waiter(unanswered, lacking)
            self._waiters.append(waiter)
        waiter.over.wait(timeout_s)
        with self._lock:
            self._waiters.remove(waiter)

    def wait_online(self, clients: Collection[str], enough: int, timeout_s: float) -> None:
        """Wait until so many of these clients are there, or time is up: without them a round would fail at once."""
        self._presence.wait(clients, enough, timeout_s)

    def take(self, message_ids: Collection[str]) -> list[Reply]:
        """The ends of those of these requests that have ended, each handed out once."""
        with self._lock:
            ends = [self._ends.pop(message_id) for message_id in message_ids if message_id in self._ends]
        return [self._reply(end) for end in ends]

    def give_up(self, message_ids: Collection[str], reason: str) -> list[Reply]:
        """Wait for these no more; the clients are told. A reply that comes later counts as late, and goes nowhere.

        Returns what has gone and come for those that have not been taken, with `reason` as error.
        """
        given_up = []
        with self._lock:
            for message_id in message_ids:
                request = self._unanswered.pop(message_id, None)
                end = self._ends.pop(message_id, None)
                if request is not None:
                    self._tell_waiters(message_id)
                    given_up.append(_End(request, None, reason, 0, Carried()))
                elif end is not None:
                    if end.file is not None:
                        self.late += 1
                        end.discard()
                    given_up.append(end._replace(file=None))
            closed = self._closed
        carried = self._files.withdraw(message_ids)
        if not closed:
            self._reactor.call_soon_threadsafe(partial(self._call_off, list(message_ids), reason))
        return [_reply(end, error=reason, carried=carried.get(end.request.message_id, end.carried)) for end in given_up]

    # From any thread: what `Files` have to tell.

    def handed_in(self, replies: HandedIn) -> None:
        """See `Announcer`."""
        self._reactor.call_soon_threadsafe(partial(self._replied, replies))

    def too_late(self, _message_id: str) -> None:
        """See `Announcer`."""
        self._reactor.call_soon_threadsafe(self._count_late)

    # For the reactor's thread.

    def feed(self, client: str, payload: bytes) -> None:
        """Take a notice of a client."""
        try:
            notice = notices.from_client(payload)
        except MalformedError:
            self.rejected += 1
            return
        request = self._open.get(notice.message_id)
        if request is None or request.client != client:
            return  # it has ended, or is none of this client's
        if not isinstance(notice, Delivered):
            self._fail(request, REFUSED, f"the client refuses it: {notice.reason}")
        elif request.delivered_ns is None:
            request.delivered_ns = now_ns()

    def reconnected(self) -> None:
        """Ask again for what has no reply: this side's connection is there again."""
        for request in self._open.values():
            self._ask(request)

    def client_status(self, client: str, online: bool) -> None:
        """A client has come, or has gone; until something is heard of it, it is taken to be there."""
        self._presence.heard(client, online)

    def close(self) -> None:
        """End all requests that are open, and those still to come; who waits for them waits no more."""
        with self._lock:
            self._closed = True
            waiting = list(self._unanswered.values())  # some of them may not have begun
        for request in list(self._open.values()):
            self._notify(request.client, Cancelled(request.message_id, CLOSED))
            self._forget(request)
        self._end_closed(waiting)
        if self._tick_timer is not None:
            self._tick_timer.cancel()
        self._presence.close()

    def _begin(self, opened: list[_Open]) -> None:
        for request in opened:
            with self._lock:
                is_given_up = request.message_id not in self._unanswered
            if is_given_up:
                request.content.release()
                continue
            self._open[request.message_id] = request
            if self._presence.is_offline(request.client):
                self._fail(request, OFFLINE, OFFLINE)
            else:
                self._notify(request.client, request.notice)
        self._tick_later()

    def _ask(self, request: _Open) -> None:
        request.quiet, request.patience = 0, _FIRST_PATIENCE
        self._notify(request.client, request.notice)

    def _notify(self, client: str, notice: FromServer) -> None:
        # Without a connection it is asked when there is one.
        self._send(client, notices.encode(notice))

    def _tick_later(self) -> None:
        if self._tick_timer is None and any(request.delivered_ns is None for request in self._open.values()):
            self._tick_timer = self._reactor.call_later(_TICK_S, self._tick)

    def _tick(self) -> None:
        self._tick_timer = None
        for request in self._open.values():
            if request.delivered_ns is not None:
                continue
            request.quiet += 1
            if request.quiet >= request.patience:
                request.quiet, request.patience = 0, min(2 * request.patience, _LONGEST_PATIENCE)
                self._notify(request.client, request.notice)
        self._tick_later()

    def _replied(self, replies: HandedIn) -> None:
        file = ReplyFile(Path(replies.path), len(replies.carried))
        for message_id, carried in replies.carried.items():
            request = self._open.get(message_id)
            if request is None:
                file.release()
                self._count_late()
                continue
            self._forget(request)
            self._hand_over(_End(request, file, None, replies.at_ns, carried))

    def _came(self, client: str) -> None:
        for request in self._open.values():
            if request.client == client:
                self._ask(request)

    def _stayed_away(self, client: str) -> None:
        for request in [request for request in self._open.values() if request.client == client]:
            self._fail(request, OFFLINE, OFFLINE)

    def _call_off(self, message_ids: list[str], reason: str) -> None:
        for message_id in message_ids:
            request = self._open.get(message_id)
            if request is not None:
                self._notify(request.client, Cancelled(message_id, reason[: notices.LONGEST_REASON]))
                self._forget(request)

    def _fail(self, request: _Open, kind: str, error: str) -> None:
        carried = self._files.withdraw([request.message_id])
        self._notify(request.client, Cancelled(request.message_id, error[: notices.LONGEST_REASON]))
        self._forget(request)
        end = _End(request, None, error, now_ns(), carried.get(request.message_id, Carried()))
        if self._hand_over(end):
            self._count_failed(kind)

    def _forget(self, request: _Open) -> None:
        """Have no more to do with a request."""
        del self._open[request.message_id]
        request.content.release()

    def _hand_over(self, end: _End) -> bool:
        """Give the worker a request's end, unless it has given that up meanwhile."""
        message_id = end.request.message_id
        with self._lock:
            if message_id in self._unanswered:
                del self._unanswered[message_id]
                self._ends[message_id] = end
                self._tell_waiters(message_id)
                return True
            if end.file is not None:
                self.late += 1
                end.discard()
        return False

    # For both.

    def _end_closed(self, requests: Sequence[_Open]) -> None:
        carried = self._files.withdraw([request.message_id for request in requests])
        for request in requests:
            has_gone = carried.get(request.message_id, Carried())
            if self._hand_over(_End(request, None, CLOSED, now_ns(), has_gone)):
                self._count_failed(CLOSED)

    def _tell_waiters(self, message_id: str) -> None:
        for waiter in self._waiters:
            if message_id in waiter.message_ids:
                waiter.lacking -= 1
                if waiter.lacking <= 0:
                    waiter.over.set()

    def _count_failed(self, kind: str) -> None:
        with self._lock:
            self.failed[kind] = self.failed.get(kind, 0) + 1

    def _count_late(self) -> None:
        with self._lock:
            self.late += 1

    def _reply(self, end: _End) -> Reply:
        parcel, error = None, end.error
        if end.file is not None:
            kind = GARBAGE
            try:
                parcel = end.file.reply_to(end.request.message_id)
            except ContentError as wrong:
                error = str(wrong)
            except OSError as failure:
                kind, error = UNREADABLE, f"its reply cannot be read: {failure.strerror or failure}"
            end.discard()
            if parcel is None:
                self._count_failed(kind)
            elif parcel.head.error is not None:
                error = parcel.head.error
                self._count_failed(ERROR)
        return _reply(end, parcel=parcel, error=error, carried=end.carried)


def _announcement(request: _Open) -> Announcement:
    content = request.content
    return Announcement(request.message_id, request.client, str(content.path), content.digest, content.size_bytes)


def _reply(end: _End, *, error: str | None, carried: Carried, parcel: Parcel | None = None) -> Reply:
    request = end.request
    down_bytes = carried.down_bytes
    if not down_bytes and (request.delivered_ns is not None or carried.up_bytes):
        # Another client of its process, to which the same way leads, has brought it for both: see `message_client`.
        down_bytes = request.content.size_bytes
    return Reply(
        client=request.client,
        message_id=request.message_id,
        parcel=parcel,
        error=error,
        submitted_ns=request.submitted_ns,
        delivered_ns=request.delivered_ns,
        received_ns=None if end.file is None else end.at_ns,
        down_bytes=down_bytes,
        up_bytes=carried.up_bytes,
    )
