"""What became of devices that moved: how long they were between two sites, and what they lost there."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from edgebench.clock import NS_PER_S
from edgebench.fabric.records import Moved, Observations
from edgebench.results.figures import HandoverFigures
from edgebench.results.samples import ABSENT, Samples, ms
from edgebench.topology.deployment import Deployment

_AROUND_NS = NS_PER_S
"""Samples due so long before a device leaves, or after it has come, may be lost by its move."""


def handovers_of(
    deployment: Deployment, observations: Observations, samples: Mapping[str, Samples]
) -> list[HandoverFigures]:
    """The moves of all devices, in the order in which they were made."""
    start_ns = observations.started_ns or 0
    # What a device decides itself goes on whatever its site is.
    travelling = [each for name, each in samples.items() if deployment.workloads[name].place != "device"]
    return [
        _figures(move, _next_left_ns(move, observations.moves), start_ns, travelling) for move in observations.moves
    ]


def _next_left_ns(move: Moved, moves: Iterable[Moved]) -> int | None:
    return min((each.left_ns for each in moves if each.node == move.node and each.left_ns > move.left_ns), default=None)


def _figures(move: Moved, next_left_ns: int | None, start_ns: int, samples: list[Samples]) -> HandoverFigures:
    come_ns = move.left_ns if move.up_ns is None else move.up_ns
    lost = 0
    firsts_ns: list[int] = []
    for each in samples:
        if move.node not in each.nodes:
            continue
        mine = each.node == each.nodes.index(move.node)
        due_ns, arrived_ns = each.ns["scheduled_ns"][mine], each.ns["arrived_ns"][mine]
        around = (due_ns >= move.left_ns - _AROUND_NS) & (due_ns <= come_ns + _AROUND_NS)
        if next_left_ns is not None:  # what is nearer to the next move is that one's
            around &= due_ns < next_left_ns - _AROUND_NS
        lost += int((around & (arrived_ns == ABSENT)).sum())
        if move.up_ns is not None:
            there = arrived_ns >= move.up_ns
            if next_left_ns is not None:
                there &= arrived_ns < next_left_ns
            firsts_ns += arrived_ns[there].tolist()
    return HandoverFigures(
        node=move.node,
        left=move.left,
        to=move.to,
        at_s=round((move.left_ns - start_ns) / NS_PER_S, 6),
        connect_ms=None if move.up_ns is None else float(ms(move.up_ns - move.left_ns)),
        first_decision_ms=float(ms(min(firsts_ns) - move.left_ns)) if firsts_ns else None,
        resent=move.resent,
        lost=lost,
    )
