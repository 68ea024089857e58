"""Files let samples pass: where both cross a link, files go piece by piece, each in its turn.

Whoever has a megabyte to send gives the network all that it takes, and a sample waits behind what systems and routers
hold of that; behind eight of them eight times as long. So a piece is what the link carries in 8 ms, and the next one,
whosever it is, sets out 2 ms after the link can have carried it: a sample waits for one piece, or for a second that was
late. Who sends from far away has several pieces a turn, and their times, since it would wait for an answer else after
each.
"""

from __future__ import annotations

import asyncio
import math
from bisect import bisect
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Literal, Protocol

from edgebench.clock import now_s
from edgebench.fabric.shelves import Turn

Way = Literal["up", "down"]

_PIECE_S = 0.01
_LEAST_BYTES, _MOST_BYTES = 1400, 1 << 20
"""Of a piece; the first goes into one packet."""
_SHARE = 0.8
"""Of a link's rate, which files leave to nobody else where there is much of them."""
_BYTES_S_PER_MBIT_S = 125_000.0
_AHEAD_S = 0.5
"""What a sender that is far away may have of pieces at once, where nobody else waits."""


class Pace:
    """One direction of a link, for all that goes across it by turns. In one event loop."""

    def __init__(self, rates_mbit_s: Sequence[tuple[float, float | None]]) -> None:
        """rates_mbit_s: what it carries from which time on, in s of `now_s`; the first from -inf. None is without a
        limit."""
        self._since_s = [since_s for since_s, _ in rates_mbit_s]
        self._bytes_s = [math.inf if rate is None else _SHARE * _BYTES_S_PER_MBIT_S * rate for _, rate in rates_mbit_s]
        self._lock = asyncio.Lock()
        self.free_s = 0.0
        """When the next piece may set out."""
        self.waiting = 0
        """How many wait behind the one whose turn is next."""

    def at(self, at_s: float) -> tuple[float, float]:
        """What files may have of it at a time, bytes/s, and until when."""
        later = bisect(self._since_s, at_s)
        return self._bytes_s[later - 1], self._since_s[later] if later < len(self._since_s) else math.inf

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Who comes first goes first; once a piece may set out."""
        self.waiting += 1
        try:
            await self._lock.acquire()
        finally:
            self.waiting -= 1
        try:
            await asyncio.sleep(max(0.0, self.free_s - now_s()))
            yield
        finally:
            self._lock.release()


class Turns:
    """A way across links, in one direction."""

    def __init__(self, paces: tuple[Pace, ...]) -> None:
        """paces: in an order that is the same for all, those that more share after those that fewer do: who waits for
        one of its own is in nobody's way."""
        self.paces = paces

    def piece_bytes(self, at_s: float) -> int:
        """What a piece is at a time."""
        return _piece_bytes(min(pace.at(at_s)[0] for pace in self.paces))

    @property
    def free_s(self) -> float:
        """When the next piece may set out."""
        return max(pace.free_s for pace in self.paces)

    async def take(self, rest_bytes: int, is_there: Callable[[], bool], *, from_afar: bool = False) -> Turn | None:
        """Wait until some of a file may set out; None where nobody is there any more to send or to get it.

        from_afar: several pieces together, which are sent each at its time.
        """
        async with AsyncExitStack() as stack:
            for pace in self.paces:
                await stack.enter_async_context(pace.turn())
            if not is_there():
                return None
            return self.begin(self.sets_out_s(now_s()), rest_bytes, from_afar=from_afar)

    def sets_out_s(self, at_s: float) -> float:
        """From when on a piece counts whose turn it is at a time: sleep that lasted a little too long takes nothing of
        the pace."""
        due_s = self.free_s
        return due_s if at_s < due_s + _PIECE_S else at_s

    def begin(self, at_s: float, rest_bytes: int, *, from_afar: bool = False) -> Turn:
        """What may set out at a time, from which on the next has to wait for it."""
        known = [pace.at(at_s) for pace in self.paces]
        bytes_s = min(rate for rate, _ in known)
        piece_bytes = _piece_bytes(bytes_s)
        size_bytes = piece_bytes
        if from_afar and math.isfinite(bytes_s):
            most_s = min(until_s for _, until_s in known) - at_s
            ahead_s = min(most_s, _AHEAD_S / (1 + max(pace.waiting for pace in self.paces)))
            size_bytes *= max(1, int(ahead_s * bytes_s / piece_bytes))
        size_bytes = min(size_bytes, rest_bytes)
        for pace, (rate, _) in zip(self.paces, known, strict=True):
            pace.free_s = at_s + size_bytes / rate
        return Turn(size_bytes, piece_bytes, piece_bytes / bytes_s)


def _piece_bytes(bytes_s: float) -> int:
    return int(min(max(_PIECE_S * bytes_s, _LEAST_BYTES), _MOST_BYTES))


class TurnsOf(Protocol):
    """Whose files go by turns."""

    def __call__(self, nodes: frozenset[str], way: Way) -> Turns | None:
        """The turns of files to or from a process with these nodes; None where no sample is in their way."""
