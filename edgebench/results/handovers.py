"""What became of devices that moved: how long they were between two sites, and what they lost there."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import ClassVar

from edgebench.clock import NS_PER_S
from edgebench.core.device import Moved
from edgebench.results.chunks import SampleChunk, ms
from edgebench.results.figures import HandoverFigures
from edgebench.results.observations import Observations
from edgebench.results.values import Extremes, Mergeable

_AROUND_NS = NS_PER_S
"""Samples due so long before a device leaves, or after it has come, may be lost by its move."""


@dataclass
class Handover(Mergeable):
    """One move of a device. arrived_ns: of the decisions that came to it at its new site."""

    PARAMETERS: ClassVar = ("move", "next_left_ns")
    move: Moved
    next_left_ns: int | None
    lost: int = 0
    arrived_ns: Extremes = field(default_factory=Extremes)

    def update(self, chunk: SampleChunk) -> None:
        """Take in a chunk of a workload that is decided elsewhere than at the device."""
        mine = chunk.is_of("node", self.move.node)
        if not mine.any():
            return
        move, next_left_ns = self.move, self.next_left_ns
        come_ns = move.left_ns if move.up_ns is None else move.up_ns
        due_ns, arrived_ns = chunk.ns["scheduled_ns"], chunk.ns["arrived_ns"]
        around = mine & (due_ns >= move.left_ns - _AROUND_NS) & (due_ns <= come_ns + _AROUND_NS)
        if next_left_ns is not None:  # what is nearer to the next move is that one's
            around &= due_ns < next_left_ns - _AROUND_NS
        self.lost += int((around & ~chunk.decided).sum())
        if move.up_ns is not None:
            there = mine & (arrived_ns >= move.up_ns)
            if next_left_ns is not None:
                there &= arrived_ns < next_left_ns
            self.arrived_ns.update(arrived_ns[there])

    def figures(self, start_ns: int) -> HandoverFigures:
        """The figures."""
        move, first_ns = self.move, self.arrived_ns.least
        return HandoverFigures(
            node=move.node,
            left=move.left,
            to=move.to,
            at_s=round((move.left_ns - start_ns) / NS_PER_S, 6),
            connect_ms=None if move.up_ns is None else float(ms(move.up_ns - move.left_ns)),
            first_decision_ms=None if first_ns is None else float(ms(first_ns - move.left_ns)),
            resent=move.resent,
            lost=self.lost,
        )


def handovers_in(observations: Observations) -> list[Handover]:
    """The moves of all devices, in the order in which they were made."""
    moves = observations.moves
    return [Handover(move, _next_left_ns(move, moves)) for move in moves]


def _next_left_ns(move: Moved, moves: Iterable[Moved]) -> int | None:
    return min((each.left_ns for each in moves if each.node == move.node and each.left_ns > move.left_ns), default=None)
