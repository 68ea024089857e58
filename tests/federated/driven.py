"""Exchanges driven by hand: time passes, and datagrams arrive, when a test says so."""

from __future__ import annotations

import heapq
import itertools
from collections import deque
from collections.abc import Callable
from pathlib import Path

from edgebench.clock import NS_PER_S
from edgebench.fabric.reactor import Timer
from edgebench.federated import datagrams
from edgebench.federated.datagrams import Chunk, Datagram, Offer
from edgebench.federated.exchange import Exchange, Transfer
from edgebench.federated.payload import Received

CHUNK_BYTES = 10
WINDOW = 4


class Clock:
    """A reactor without sockets."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self._timers: list[tuple[int, int, Timer]] = []
        self._order = itertools.count()

    def call_later(self, delay_s: float, call: Callable[[], None]) -> Timer:
        timer = Timer(round((self.now_s + delay_s) * NS_PER_S), call)
        heapq.heappush(self._timers, (timer.due_ns, next(self._order), timer))
        return timer

    def call_soon_threadsafe(self, call: Callable[[], None]) -> None:
        self.call_later(0.0, call)

    def run_due(self) -> bool:
        """Make the calls that are due; whether there was one."""
        fired = False
        while self._timers and self._timers[0][0] <= round(self.now_s * NS_PER_S):
            call = heapq.heappop(self._timers)[2].call
            if call is not None:
                fired = True
                call()
        return fired

    def sleep(self, s: float) -> None:
        """Let time pass."""
        self.now_s += s
        self.run_due()

    @property
    def idle(self) -> bool:
        """Whether nothing is to be called, ever."""
        return all(timer.call is None for _, _, timer in self._timers)


class End:
    """One exchange, what it has sent and not been delivered yet (oldest first), and what it has received."""

    def __init__(self, clock: Clock, spool_dir: Path, *, chunk_bytes: int = CHUNK_BYTES, window: int = WINDOW) -> None:
        self.outbox: deque[tuple[str, bytes]] = deque()
        self.sent: list[Datagram] = []
        self.received: list[tuple[str, Received]] = []
        self.done: list[Transfer] = []
        self.cancelled: list[tuple[str, int, str]] = []
        self.connected = True
        self.fills_up = False
        self.backed_up = False
        self.wanted = True
        self.spool_dir = spool_dir
        self.exchange = Exchange(
            clock,
            self._send,
            spool_dir,
            on_received=lambda peer, received: self.received.append((peer, received)),
            on_cancelled=lambda peer, transfer_id, reason: self.cancelled.append((peer, transfer_id, reason)),
            accept=lambda _peer, _transfer_id: self.wanted,
            backed_up=lambda: self.backed_up,
            chunk_bytes=chunk_bytes,
            window=window,
        )

    def _send(self, peer: str, datagram: bytes) -> bool:
        if self.connected:
            self.sent.append(datagrams.decode(datagram))
            self.outbox.append((peer, datagram))
            self.backed_up = self.fills_up
        return self.connected

    def send(self, payload: list[bytes] | Path, *, peer: str = "b", reply_to: int | None = None) -> Transfer:
        return self.exchange.send(peer, payload, self.done.append, reply_to=reply_to)

    @property
    def payloads(self) -> list[bytes]:
        """What has been received, as bytes."""
        return [bytes(r.data or b"") if r.path is None else r.path.read_bytes() for _, r in self.received]

    @property
    def chunks(self) -> list[int]:
        """The indices of the chunks that were sent."""
        return [message.index for message in self.sent if isinstance(message, Chunk)]

    @property
    def n_offers(self) -> int:
        return sum(isinstance(message, Offer) for message in self.sent)


class Pair:
    """Ends `a` and `b` and the way between them.

    `fate(number, datagram)` makes of each datagram what arrives of it; `source` is the end that it comes from.
    """

    def __init__(self, tmp_path: Path, *, chunk_bytes: int = CHUNK_BYTES, window: int = WINDOW) -> None:
        self.clock = Clock()
        self.a = End(self.clock, tmp_path / "a", chunk_bytes=chunk_bytes, window=window)
        self.b = End(self.clock, tmp_path / "b", chunk_bytes=chunk_bytes, window=window)
        self.fate: Callable[[int, bytes], list[bytes]] = lambda _number, datagram: [datagram]
        self.n_carried = 0
        self.source = ""

    def carry(self) -> None:
        """Deliver what is on the way, and what is sent because of it, until all is quiet; no time passes."""
        while self.clock.run_due() or self.a.outbox or self.b.outbox:
            self._carry_one(self.a, self.b, "a")
            self._carry_one(self.b, self.a, "b")

    def carry_until_done(self, limit_s: float = 60.0) -> None:
        """Deliver and let time pass until everything that was sent has ended."""
        until_s = self.clock.now_s + limit_s
        self.carry()
        while not self.clock.idle:
            assert self.clock.now_s < until_s, "it does not end"
            self.clock.sleep(0.5)
            self.carry()

    def lose(self) -> None:
        """What is under way is lost."""
        self.a.outbox.clear()
        self.b.outbox.clear()

    def _carry_one(self, source: End, target: End, name: str) -> None:
        if source.outbox:
            _, datagram = source.outbox.popleft()
            number = self.n_carried
            self.n_carried += 1
            self.source = name
            for arriving in self.fate(number, datagram):
                target.exchange.feed(name, arriving)
