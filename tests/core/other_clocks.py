"""Clocks of other machines, and exchanges with them over networks, made up so that the truth is known."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from edgebench.clock import NS_PER_MS, NS_PER_S
from edgebench.core.clocks import Exchange

AHEAD_NS = 5_000 * NS_PER_S

Delay = Callable[[np.random.Generator], float]
"""The next one, ms."""


@dataclass(frozen=True)
class Segment:
    """From a moment of the server's clock on, the machine's reads `own_ns` and gains `ppm`."""

    from_ns: int
    own_ns: int
    ppm: float


class MachineClock:
    """A machine's clock, as a function of the server's: it drifts, jumps, and stands still."""

    def __init__(self, ahead_ns: int = AHEAD_NS, ppm: float = 0.0) -> None:
        self.segments = [Segment(0, ahead_ns, ppm)]

    def own_ns(self, server_ns: int) -> int:
        """What it reads at a moment of the server's clock."""
        segment = next(each for each in reversed(self.segments) if each.from_ns <= server_ns)
        passed_ns = server_ns - segment.from_ns
        return segment.own_ns + passed_ns + round(passed_ns * segment.ppm * 1e-6)

    def change(self, at_s: float, *, by_ms: float = 0.0, ppm: float | None = None) -> MachineClock:
        """It jumps forward by so much, stands still for so long where that is negative, or drifts otherwise."""
        at_ns, by_ns = round(at_s * NS_PER_S), round(by_ms * NS_PER_MS)
        drift = self.segments[-1].ppm if ppm is None else ppm
        own_ns = self.own_ns(at_ns)
        if by_ns < 0:
            self.segments.append(Segment(at_ns, own_ns, -1e6))
        self.segments.append(Segment(at_ns - min(by_ns, 0), own_ns + max(by_ns, 0), drift))
        return self


def lan(rng: np.random.Generator) -> float:
    """A cable: a tenth of a ms, seldom more."""
    return 0.08 + float(rng.exponential(0.04)) + (2.0 if rng.random() < 0.02 else 0.0)


def wifi(rng: np.random.Generator) -> float:
    """A radio: a ms at best, and a long tail."""
    return 0.8 + float(rng.lognormal(0.5, 1.2))


def slow(rng: np.random.Generator) -> float:
    """Ten times as long the one way as the other."""
    return 10.0 + float(rng.exponential(3.0))


def exchanges(
    clock: MachineClock,
    rng: np.random.Generator,
    *,
    there: Delay = lan,
    back: Delay = lan,
    until_s: float = 120.0,
    every_s: float = 0.25,
) -> list[Exchange]:
    """What a machine exchanges with the server, one after the other."""
    found = []
    at_ns = NS_PER_S
    while at_ns < until_s * NS_PER_S:
        received_ns = at_ns + round(there(rng) * NS_PER_MS)
        answered_ns = received_ns + round(float(rng.exponential(0.05)) * NS_PER_MS)
        back_ns = answered_ns + round(back(rng) * NS_PER_MS)
        found.append(Exchange(clock.own_ns(at_ns), received_ns, answered_ns, clock.own_ns(back_ns)))
        at_ns = back_ns + round(every_s * float(rng.uniform(0.8, 1.2)) * NS_PER_S)
    return found
