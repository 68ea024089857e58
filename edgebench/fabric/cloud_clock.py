"""The cloud's clock as a process on another machine knows it, so that streams start everywhere at one moment."""

from __future__ import annotations

import msgspec

from edgebench.clock import NS_PER_MS, NS_PER_S, now_ns
from edgebench.core.clocks import ClockComparison, Exchange
from edgebench.fabric.slices import RunState

START_BOUND_NS = 25 * NS_PER_MS
"""Streams may start apart by as much as a sample may slip its schedule."""


class CloudClock:
    """Compared with every heartbeat, from the thread of these alone."""

    def __init__(self, *, shared: bool) -> None:
        """shared: it is the process's own, so that there is nothing to compare, and no error."""
        self._comparison = None if shared else ClockComparison()
        self.longest_round_trip_s = 0.0
        """Between this machine and the cloud's, where they are two."""

    def compare(self, exchange: Exchange) -> None:
        """Take in the stamps of a heartbeat and its answer."""
        if self._comparison is not None:
            self._comparison.add(exchange.t0_ns, exchange.t1_ns, exchange.t2_ns, exchange.t3_ns)
            round_trip_ns = exchange.t3_ns - exchange.t0_ns - (exchange.t2_ns - exchange.t1_ns)
            self.longest_round_trip_s = max(self.longest_round_trip_s, round_trip_ns / NS_PER_S)

    @property
    def bound_ns(self) -> int | None:
        """How far at most the truth is from what is known; None before the first comparison."""
        if self._comparison is None:
            return 0
        offset = self._comparison.at(now_ns())
        return None if offset is None else offset.bound_ns

    @property
    def is_known(self) -> bool:
        """Whether streams can start by it."""
        return (bound_ns := self.bound_ns) is not None and bound_ns <= START_BOUND_NS

    @property
    def wants(self) -> str:
        """What would make it known; empty where it is, or was not compared yet."""
        bound_ns = self.bound_ns
        if bound_ns is None or bound_ns <= START_BOUND_NS:
            return ""
        known_ms, needed_ms = bound_ns / NS_PER_MS, START_BOUND_NS / NS_PER_MS
        return f"it knows the cloud's clock to ± {known_ms:,.0f} ms, and may start by ± {needed_ms:.0f} ms"

    def on_own(self, state: RunState) -> RunState:
        """What the cloud says, with its time on this process's clock."""
        if self._comparison is None or state.start_ns is None:
            return state
        return msgspec.structs.replace(state, start_ns=self._comparison.own_at(state.start_ns))
