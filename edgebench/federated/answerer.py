"""A client's side of federated messages: requests come in, and each reply is sent until it has arrived."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec

from edgebench.clock import now_ns
from edgebench.federated.exchange import Exchange, Timers, Transfer
from edgebench.federated.payload import Payload, Received

_SERVER = "server"


class Asked(msgspec.Struct, frozen=True):
    """A request that has arrived; its file, if it has one, is there until it is answered or cancelled."""

    received: Received
    received_ns: int

    @property
    def transfer_id(self) -> int:
        """Tells it from all others."""
        return self.received.transfer_id


class Answerer:
    """One client. Everything runs in the reactor's thread; with nothing under way it has no timer."""

    def __init__(
        self,
        timers: Timers,
        send: Callable[[bytes], bool],
        spool_dir: Path,
        *,
        on_request: Callable[[Asked], None],
        on_cancelled: Callable[[Asked], None],
        backed_up: Callable[[], bool],
    ) -> None:
        """send(datagram): to the server; False where there is no connection. on_cancelled: the server does not want
        the answer any more. backed_up: whether the connection has not yet taken what was sent."""
        self._on_request = on_request
        self._on_cancelled = on_cancelled
        self._asked: dict[int, Asked] = {}
        self._replies: dict[int, Payload] = {}
        self._exchange = Exchange(
            timers,
            lambda _server, datagram: send(datagram),
            spool_dir,
            on_received=self._received,
            on_cancelled=self._cancelled,
            backed_up=backed_up,
        )

    @property
    def rejected(self) -> dict[str, int]:
        """Datagrams that were none, by reason."""
        return self._exchange.rejected

    def feed(self, datagram: bytes) -> None:
        """Take a datagram from the server."""
        self._exchange.feed(_SERVER, datagram)

    def answer(self, asked: Asked, reply: Payload) -> None:
        """Send the reply. If it is a file, that is deleted when it has arrived, or nobody wants it any more."""
        if self._asked.pop(asked.transfer_id, None) is None:
            _delete(reply)
            return
        asked.received.discard()
        self._replies[asked.transfer_id] = reply
        self._exchange.send(_SERVER, reply, self._sent, reply_to=asked.transfer_id)

    def reconnected(self) -> None:
        """Go on at once with what is unfinished."""
        self._exchange.reconnected()

    def close(self) -> None:
        """Forget everything that is open, and delete its files."""
        self._exchange.close()
        for asked in self._asked.values():
            asked.received.discard()
        for reply in self._replies.values():
            _delete(reply)
        self._asked.clear()
        self._replies.clear()

    def _received(self, _server: str, received: Received) -> None:
        asked = Asked(received, now_ns())
        self._asked[received.transfer_id] = asked
        self._on_request(asked)

    def _sent(self, transfer: Transfer) -> None:
        _delete(self._replies.pop(transfer.transfer_id))

    def _cancelled(self, _server: str, transfer_id: int, _reason: str) -> None:
        asked = self._asked.pop(transfer_id, None)
        if asked is not None:
            asked.received.discard()
            self._on_cancelled(asked)


def _delete(reply: Payload) -> None:
    if isinstance(reply, Path):
        reply.unlink(missing_ok=True)
