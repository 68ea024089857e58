"""A server's side of federated messages: requests go to peers, and a worker thread waits for their replies.

The worker calls `submit`, `wait`, `take` and `give_up`; all else runs in the reactor's thread. A request ends in one of
three ways: with a reply, with an error, or given up by the worker, who is told what has gone and come until then.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple, Protocol

import msgspec

from edgebench.clock import now_ns
from edgebench.fabric.descriptors import allow_descriptors
from edgebench.fabric.reactor import Timer
from edgebench.federated.content import Bytes, ContentError, Head, Parcel
from edgebench.federated.exchange import Exchange, Transfer
from edgebench.federated.payload import Received

OFFLINE = "offline"
REFUSED = "refused"
GARBAGE = "garbage"
UNREADABLE = "unreadable"
ERROR = "error"
CLOSED = "closed"

_GRACE_S = 3.0
"""How long a peer may be away without its open requests failing: a broken connection is made again within 2 s."""
_ENDED_KEPT = 10_000
"""Requests that ended without a reply, kept to know late replies from those to nothing."""


class Scheduler(Protocol):
    """What a courier needs of a reactor."""

    def call_later(self, delay_s: float, call: Callable[[], None]) -> Timer:
        """Call after a delay in s."""

    def call_soon_threadsafe(self, call: Callable[[], None]) -> None:
        """Call from the reactor's thread as soon as it can; from any thread."""


class Request(msgspec.Struct, frozen=True):
    """A message to a peer. buffers: the parcel, packed, with this head."""

    peer: str
    head: Head
    buffers: Sequence[Bytes]


class Reply(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a request: `error` is None if the reply has content.

    parcel: None where none came; if it came from a file, its arrays are mapped from it. down_bytes, up_bytes: payload
    bytes that were sent and that came until the request ended, those of resumed transfers that went twice included,
    whether it became a reply or not. The stamps are this side's; those of the peer are in the parcel's head.
    """

    peer: str
    message_id: str
    parcel: Parcel | None
    error: str | None
    submitted_ns: int
    delivered_ns: int | None
    received_ns: int | None
    down_bytes: int
    up_bytes: int


class _Open:
    """A request without an end. The transfer is None until the reactor has begun it."""

    def __init__(self, request: Request) -> None:
        self.peer = request.peer
        self.message_id = request.head.message_id
        self.buffers = request.buffers
        self.submitted_ns = now_ns()
        self.delivered_ns: int | None = None
        self.transfer: Transfer | None = None
        self.up_bytes = 0


class _End(NamedTuple):
    request: _Open
    received: Received | None
    error: str | None
    at_ns: int


class _Waiter:
    def __init__(self, message_ids: set[str], lacking: int) -> None:
        self.message_ids = message_ids
        self.lacking = lacking
        self.over = threading.Event()


class Courier:
    """Requests to peers and their replies.

    late: replies that came, or began to, after their request had ended. unexpected: datagrams of replies to nothing.
    failed: requests that ended without content, those given up apart, by kind: `offline`, `refused` by the peer,
    `garbage` (a reply that is no parcel, or to another message), `unreadable` (a reply whose file cannot be mapped),
    `error` (that the peer's reply tells), `closed`.
    """

    def __init__(
        self,
        reactor: Scheduler,
        send: Callable[[str, bytes], bool],
        spool_dir: Path,
        *,
        backed_up: Callable[[], bool],
    ) -> None:
        """send(peer, datagram): False where there is no connection. backed_up: whether the connection has not yet taken
        what was sent. spool_dir: large replies come in there. The process may open more files from now on."""
        allow_descriptors()
        self.late = 0
        self.unexpected = 0
        self.failed: dict[str, int] = {}
        self._reactor = reactor
        self._exchange = Exchange(
            reactor,
            send,
            spool_dir,
            on_received=self._received,
            on_cancelled=self._refused,
            accept=self._awaits,
            backed_up=backed_up,
        )
        # The reactor's: open requests by message, and by the transfer that request and reply have in common.
        self._open: dict[str, _Open] = {}
        self._by_transfer: dict[tuple[str, int], _Open] = {}
        self._ended: dict[tuple[str, int], bool] = {}
        self._away: dict[str, Timer] = {}
        self._status_changed = threading.Condition()
        # Both threads'. Offline is who was away over the grace; who has just gone may be there again in a moment.
        self._offline: set[str] = set()
        self._closed = False
        self._lock = threading.Lock()
        self._unanswered: dict[str, _Open] = {}
        self._ends: dict[str, _End] = {}
        self._waiters: list[_Waiter] = []

    @property
    def rejected(self) -> dict[str, int]:
        """Datagrams that were none, by reason."""
        return self._exchange.rejected

    # For the worker.

    def submit(self, requests: Sequence[Request]) -> list[str]:
        """Send requests, and return their message ids. The buffers may not change until the replies are there.

        After `close` they end at once.
        """
        opened = [_Open(request) for request in requests]
        message_ids = [request.message_id for request in opened]
        with self._lock:
            if len(set(message_ids)) < len(opened) or any(
                message_id in self._unanswered or message_id in self._ends for message_id in message_ids
            ):
                raise ValueError("two requests have one message id")
            self._unanswered.update(zip(message_ids, opened, strict=True))
            closed = self._closed
        if closed:
            self._end_closed(opened)
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

    def wait_online(self, peers: Collection[str], enough: int, timeout_s: float) -> None:
        """Wait until so many of these peers are there, or time is up: without them a round would fail at once."""

        def there() -> bool:
            return self._closed or sum(peer not in self._offline for peer in peers) >= enough

        with self._status_changed:
            self._status_changed.wait_for(there, timeout_s)

    def take(self, message_ids: Collection[str]) -> list[Reply]:
        """The ends of those of these requests that have ended, each handed out once."""
        with self._lock:
            ends = [self._ends.pop(message_id) for message_id in message_ids if message_id in self._ends]
        return [self._reply(end) for end in ends]

    def give_up(self, message_ids: Collection[str], reason: str) -> list[Reply]:
        """Wait for these no more; the peers are told. A reply that comes later counts as late, and goes nowhere.

        Returns what has gone and come for those that have not been taken, with `reason` as error.
        """
        given_up = []
        with self._lock:
            for message_id in message_ids:
                request = self._unanswered.pop(message_id, None)
                end = self._ends.pop(message_id, None)
                if request is not None:
                    self._tell_waiters(message_id)
                    given_up.append(_reply(request, error=reason, up_bytes=self._carried(request)))
                elif end is not None:
                    given_up.append(_reply(end.request, error=reason, up_bytes=_up_bytes(end)))
                    if end.received is not None:
                        self.late += 1
                        end.received.discard()
            closed = self._closed
        if not closed:
            self._reactor.call_soon_threadsafe(partial(self._call_off, list(message_ids), reason))
        return given_up

    # For the reactor's thread.

    def feed(self, peer: str, datagram: bytes) -> None:
        """Take a datagram from a peer."""
        self._exchange.feed(peer, datagram)

    def reconnected(self) -> None:
        """Go on at once with what is unfinished: this side's connection is there again."""
        self._exchange.reconnected()

    def peer_status(self, peer: str, online: bool) -> None:
        """A peer has come, or has gone; until something is heard of it, it is taken to be there."""
        if online:
            grace = self._away.pop(peer, None)
            if grace is not None:
                grace.cancel()
            self._offline.discard(peer)
            self._exchange.reconnected(peer)
            self._tell_status()
        elif peer not in self._away and peer not in self._offline:
            self._away[peer] = self._reactor.call_later(_GRACE_S, partial(self._stayed_away, peer))

    def close(self) -> None:
        """End all requests that are open, and those still to come; who waits for them waits no more."""
        with self._lock:
            self._closed = True
            waiting = list(self._unanswered.values())  # some of them may not have begun
        for request in list(self._open.values()):
            self._close(request, CLOSED)
        self._end_closed(waiting)
        for timer in self._away.values():
            timer.cancel()
        self._exchange.close()
        self._tell_status()

    def _begin(self, opened: list[_Open]) -> None:
        if self._closed:
            return  # `close` has ended them
        for request in opened:
            self._open[request.message_id] = request
            if request.peer in self._offline:
                self._fail(request, OFFLINE, OFFLINE)
                continue
            transfer = self._exchange.send(request.peer, request.buffers, partial(self._sent, request))
            request.transfer = transfer
            self._by_transfer[request.peer, transfer.transfer_id] = request

    def _sent(self, request: _Open, transfer: Transfer) -> None:
        if transfer.error is None:
            request.delivered_ns = now_ns()
        else:
            self._fail(request, REFUSED, f"the peer refuses it: {transfer.error}")

    def _awaits(self, peer: str, transfer_id: int) -> bool:
        if (peer, transfer_id) in self._by_transfer:
            return True
        self._count_stray(peer, transfer_id)
        return False

    def _received(self, peer: str, received: Received) -> None:
        request = self._by_transfer.get((peer, received.transfer_id))
        if request is None:
            received.discard()
            self._count_stray(peer, received.transfer_id)
        else:
            del self._open[request.message_id]
            del self._by_transfer[peer, received.transfer_id]
            self._hand_over(_End(request, received, None, now_ns()))

    def _refused(self, peer: str, transfer_id: int, reason: str) -> None:
        request = self._by_transfer.get((peer, transfer_id))
        if request is not None:
            self._fail(request, REFUSED, f"the peer refuses it: {reason}")

    def _stayed_away(self, peer: str) -> None:
        del self._away[peer]
        self._offline.add(peer)
        for request in [request for request in self._open.values() if request.peer == peer]:
            self._fail(request, OFFLINE, OFFLINE)

    def _call_off(self, message_ids: list[str], reason: str) -> None:
        for message_id in message_ids:
            request = self._open.get(message_id)
            if request is not None:
                self._close(request, reason)

    def _fail(self, request: _Open, kind: str, error: str) -> None:
        self._close(request, error)
        if self._hand_over(_End(request, None, error, now_ns())):
            self._count_failed(kind)

    def _close(self, request: _Open, reason: str) -> None:
        """Have no more to do with a request: its transfers are called off, and what comes for it is late."""
        del self._open[request.message_id]
        if request.transfer is None:
            return
        request.up_bytes = self._carried(request)
        self._exchange.cancel(request.transfer, reason)
        key = (request.peer, request.transfer.transfer_id)
        del self._by_transfer[key]
        self._ended[key] = False
        if len(self._ended) > _ENDED_KEPT:
            del self._ended[next(iter(self._ended))]

    def _hand_over(self, end: _End) -> bool:
        """Give the worker a request's end, unless it has given that up meanwhile."""
        message_id = end.request.message_id
        with self._lock:
            if message_id in self._unanswered:
                del self._unanswered[message_id]
                self._ends[message_id] = end
                self._tell_waiters(message_id)
                return True
            if end.received is not None:
                self.late += 1
                end.received.discard()
        return False

    def _count_stray(self, peer: str, transfer_id: int) -> None:
        counted = self._ended.get((peer, transfer_id))
        if counted is None:
            self.unexpected += 1
        elif not counted:
            # Of the datagrams of one reply several may be under way when the first is refused.
            self._ended[peer, transfer_id] = True
            with self._lock:
                self.late += 1

    def _tell_status(self) -> None:
        with self._status_changed:
            self._status_changed.notify_all()

    # For both.

    def _end_closed(self, requests: Sequence[_Open]) -> None:
        for request in requests:
            if self._hand_over(_End(request, None, CLOSED, now_ns())):
                self._count_failed(CLOSED)

    def _carried(self, request: _Open) -> int:
        """Payload bytes that have come of a reply that is not whole."""
        if request.transfer is None:
            return 0
        # Of a request that is just failing, the exchange has forgotten them.
        return max(request.up_bytes, self._exchange.carried_bytes(request.peer, request.transfer.transfer_id))

    def _tell_waiters(self, message_id: str) -> None:
        for waiter in self._waiters:
            if message_id in waiter.message_ids:
                waiter.lacking -= 1
                if waiter.lacking <= 0:
                    waiter.over.set()

    def _count_failed(self, kind: str) -> None:
        with self._lock:
            self.failed[kind] = self.failed.get(kind, 0) + 1

    def _reply(self, end: _End) -> Reply:
        parcel, error = None, end.error
        if end.received is not None:
            kind = GARBAGE
            try:
                parcel = end.received.parcel()
            except ContentError as wrong:
                error = str(wrong)
            except OSError as failure:
                kind, error = UNREADABLE, f"its reply cannot be read: {failure.strerror or failure}"
            end.received.discard()  # what is mapped stays
            if parcel is not None and parcel.head.reply_to != end.request.message_id:
                parcel, error = None, "a reply to another message"
            if parcel is None:
                self._count_failed(kind)
            elif parcel.head.error is not None:
                error = parcel.head.error
                self._count_failed(ERROR)
        return _reply(
            end.request,
            parcel=parcel,
            error=error,
            received_ns=None if end.received is None else end.at_ns,
            up_bytes=_up_bytes(end),
        )


def _reply(
    request: _Open, *, error: str | None, up_bytes: int, parcel: Parcel | None = None, received_ns: int | None = None
) -> Reply:
    return Reply(
        peer=request.peer,
        message_id=request.message_id,
        parcel=parcel,
        error=error,
        submitted_ns=request.submitted_ns,
        delivered_ns=request.delivered_ns,
        received_ns=received_ns,
        down_bytes=0 if request.transfer is None else request.transfer.sent_bytes,
        up_bytes=up_bytes,
    )


def _up_bytes(end: _End) -> int:
    return end.request.up_bytes if end.received is None else end.received.carried_bytes
