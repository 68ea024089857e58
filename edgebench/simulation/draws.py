"""Chance by message and purpose, so that it does not depend on the order in which anything is simulated.

Source of the generator: SplitMix64, Steele et al. 2014.
"""

from __future__ import annotations

import math
from typing import get_args

import numpy as np

from edgebench.core.links import PARETO_DEVIATION, PARETO_MEAN, PARETO_SHAPE
from edgebench.simulation.columns import COUNT, DEVICE, FIRST, FLOW, NEAR, PLACE, SEQ, STREAM, Bag, Flows, Rows
from edgebench.simulation.jit import inlined
from edgebench.topology.link_model import Jitter

JITTERS: tuple[Jitter, ...] = get_args(Jitter)

_U = np.uint64
_GOLDEN, _A, _B = _U(0x9E3779B97F4A7C15), _U(0xBF58476D1CE4E5B9), _U(0x94D049BB133111EB)
_UNIT = 1.0 / 9007199254740992.0


@inlined
def _mixed(z: np.uint64) -> np.uint64:
    z = (z ^ (z >> _U(30))) * _A
    z = (z ^ (z >> _U(27))) * _B
    return z ^ (z >> _U(31))


@inlined
def draw(stream: int, one: int, other: int) -> float:
    """A number in [0, 1) that belongs to a stream of chance and two whole numbers below 2³²."""
    key = _mixed(((_U(one) << _U(32)) | _U(other)) + _GOLDEN)
    return float(_mixed(_U(stream) + key * _GOLDEN) >> _U(11)) * _UNIT


@inlined
def deviation(law: int, stream: int, lane: int, number: int) -> float:
    """How far off its latency a lane is, as `core.links.jitter_draws` has it: laws are in the order of `JITTERS`."""
    chance = draw(stream, lane, 2 * number)
    if law == 0:
        return 2.0 * chance - 1.0
    if law == 1:  # source: Box and Muller 1958
        return math.sqrt(-2.0 * math.log(1.0 - chance)) * math.cos(2.0 * math.pi * draw(stream, lane, 2 * number + 1))
    return ((1.0 - chance) ** (-1.0 / PARETO_SHAPE) - 1.0 - PARETO_MEAN) / PARETO_DEVIATION


@inlined
def first_delay(stream: int, lane: int, delays: int) -> int:
    """The place of a trace of delays where a lane begins."""
    return int(draw(stream, lane, 0) * delays)


@inlined
def picked(flows: Flows, count: int, place: int, stream: int, one: int, other: int) -> int:
    """A value of a distribution, as `Flows.drawn` has it: each that was observed is as likely as any other."""
    if count == 1:
        return place
    return flows.values[place + int(draw(stream, one, other) * count)]


@inlined
def cost(flows: Flows, purpose: int, group: int, rows: Rows, slot: int) -> int:
    """What something takes, or is large, of a message at a node of a group."""
    flow, drawn = rows[slot, FLOW], flows.drawn
    count, place = drawn[flow, group, purpose, COUNT], drawn[flow, group, purpose, PLACE]
    return picked(flows, count, place, drawn[flow, group, purpose, STREAM], rows[slot, DEVICE], rows[slot, SEQ])


@inlined
def push(bag: Bag, slot: int) -> None:
    """Put a message into a bag, which has room for all that there are."""
    bag[FIRST + bag[NEAR]] = slot
    bag[NEAR] += 1
