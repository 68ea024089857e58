"""Which machines are there: when they were heard, from where, and how their clocks stand to the lab's."""

from __future__ import annotations

import asyncio
from collections import deque

from edgebench.clock import now_ns, now_s
from edgebench.core.clocks import ClockComparison, Exchange, Offset
from edgebench.lab.messages import LOST_S, PRESENT_S

_MOST_EXCHANGES = 2_000
"""Of a quarter of an hour; a run asks for them every few seconds."""


class Presence:
    """One machine's. session: the one that it is in, or was."""

    def __init__(self, session: str) -> None:
        self.session = session
        self.address = ""
        self.server_address = ""
        self.wake = asyncio.Event()
        self.lost_told = False
        self._heard_s: float | None = None
        self._since_s = now_s()
        self._clock = ClockComparison()
        self._exchanges: deque[Exchange] = deque(maxlen=_MOST_EXCHANGES)

    def is_at(self, address: str, server_address: str) -> None:
        """From where to where it talks."""
        self.address, self.server_address = address, server_address

    def heard(self) -> None:
        """It has just said something."""
        self._heard_s = now_s()
        self.lost_told = False

    @property
    def silent_s(self) -> float | None:
        """For how long nothing was heard; None: since this server was started."""
        return None if self._heard_s is None else now_s() - self._heard_s

    @property
    def is_present(self) -> bool:
        """Whether it was heard lately, and from where: a clock may be compared before anything else is said."""
        return self.address != "" and self._heard_s is not None and now_s() - self._heard_s < PRESENT_S

    @property
    def is_lost(self) -> bool:
        """Whether it was not heard for `LOST_S`; a server that was started less long ago cannot tell."""
        return now_s() - (self._heard_s or self._since_s) > LOST_S

    def begin(self, session: str) -> None:
        """It starts anew, with a clock that may be another."""
        self.session = session
        self.forget_clock()

    def forget_clock(self) -> None:
        """Nothing of what was known holds any more."""
        self._clock = ClockComparison()
        self._exchanges.clear()

    def compare(self, exchange: Exchange) -> None:
        """Take in an exchange: the machine's own clock, and this computer's as the other. Raises ValueError."""
        self._clock.add(exchange.t0_ns, exchange.t1_ns, exchange.t2_ns, exchange.t3_ns)
        self._exchanges.append(exchange)

    def exchanges_after(self, own_ns: int) -> tuple[Exchange, ...]:
        """Those of this session that began after this moment of the machine's clock, of the last minutes."""
        return tuple(each for each in self._exchanges if each.t0_ns > own_ns)

    @property
    def offset(self) -> Offset | None:
        """This computer's clock minus the machine's, now."""
        own_ns = self._clock.own_at(now_ns())
        return None if own_ns is None else self._clock.at(own_ns)
