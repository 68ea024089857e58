"""What became of devices that moved: how long they were between two sites, and what they lost there."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from edgebench.clock import NS_PER_S
from edgebench.experiments.figures import HandoverFigures
from edgebench.experiments.samples import ABSENT, Samples, ms
from edgebench.fabric.records import Moved, Observations

_AROUND_NS = NS_PER_S
"""Samples due so long before a device leaves, or after it has come, may be lost by its move."""


def handovers_of(observations: Observations, samples: Mapping[str, Samples]) -> list[HandoverFigures]:
    """The moves of all devices, in the order in which they were made."""
    start_ns = observations.started_ns or 0
    return [_figures(move, start_ns, samples) for move in observations.moves]


def _figures(move: Moved, start_ns: int, samples: Mapping[str, Samples]) -> HandoverFigures:
    until_ns = (move.up_ns if move.up_ns is not None else np.iinfo(np.int64).max - _AROUND_NS) + _AROUND_NS
    lost, first_ns = 0, None
    for each in samples.values():
        if move.node not in each.nodes:
            continue
        mine = each.node == each.nodes.index(move.node)
        due_ns, arrived_ns = each.ns["scheduled_ns"][mine], each.ns["arrived_ns"][mine]
        around = (due_ns >= move.left_ns - _AROUND_NS) & (due_ns <= until_ns)
        lost += int((around & (arrived_ns == ABSENT)).sum())
        after = arrived_ns[arrived_ns > move.left_ns]
        if len(after):
            first_ns = min(int(after.min()), first_ns if first_ns is not None else int(after.min()))
    return HandoverFigures(
        node=move.node,
        left=move.left,
        to=move.to,
        at_s=round((move.left_ns - start_ns) / NS_PER_S, 6),
        connect_ms=None if move.up_ns is None else float(ms(move.up_ns - move.left_ns)),
        first_decision_ms=None if first_ns is None else float(ms(first_ns - move.left_ns)),
        resent=move.resent,
        lost=lost,
    )
