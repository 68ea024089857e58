"""The seeded schedules of a real run, drawn for any number of devices at once.

Each device of a run has a generator of its own, `rng_for(seed, "load", workload, device)`, and draws its times one by
one. A million such generators are no objects here but rows of four numbers; what they draw is bit for bit the same.

Sources: NumPy's SeedSequence and PCG64 (M. O'Neill, "PCG: A Family of Simple Fast Space-Efficient Statistically Good
Algorithms for Random Number Generation", 2014; the generator is XSL RR 128/64), and its exponential draws (G.
Marsaglia, W. W. Tsang, "The Ziggurat Method for Generating Random Variables", 2000)."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
from numba.np.random import _constants as ziggurat
from numpy.typing import NDArray

from edgebench.seeds import seed_for
from edgebench.simulation.fleet import Group
from edgebench.simulation.hashing import Seeds, numbered_seeds
from edgebench.simulation.jit import inlined, making

States = NDArray[np.uint64]
"""[generator, 4]: the upper and lower half of a state, and of an increment."""

_U = np.uint64
_MASK32 = _U(0xFFFFFFFF)
_MULTIPLIER = (_U(0x2360ED051FC65DA4), _U(0x4385DF649FCCF645))
_INIT_A, _MULT_A, _INIT_B, _MULT_B = _U(0x43B0D7E5), _U(0x931E8875), _U(0x8B51F9DD), _U(0x58F38DED)
_MIX_L, _MIX_R = _U(0xCA01F9DD), _U(0x4973F715)
_LAYERS, _WIDTHS, _HEIGHTS = ziggurat.ke_double, ziggurat.we_double, ziggurat.fe_double
_TAIL = float(ziggurat.ziggurat_exp_r)
_UNIT = 1.0 / 9007199254740992.0


def generators(seed: int, purpose: str, workload: str, groups: Iterable[Group]) -> States:
    """The generators `rng_for(seed, purpose, workload, name)` of all nodes of groups, as they are before their first
    draw."""
    return seeded(np.concatenate([_seeds(seed, purpose, workload, group) for group in groups]))


def _seeds(seed: int, purpose: str, workload: str, group: Group) -> Seeds:
    if group.numbered:
        return numbered_seeds(group.count, seed, purpose, workload, f"{group.name}-")
    return np.array([seed_for(seed, purpose, workload, group.name)], np.uint64)


@making
def seeded(seeds: NDArray[np.uint64]) -> States:
    """Generators as `numpy.random.default_rng` makes them of seeds [generator] of 64 bits."""
    states = np.empty((len(seeds), 4), np.uint64)
    pool = np.empty(4, np.uint64)
    words = np.empty(8, np.uint64)
    for number in range(len(seeds)):
        _fill_pool(seeds[number], pool)
        constant = _INIT_B
        for place in range(8):
            word = pool[place % 4] ^ constant
            constant = (constant * _MULT_B) & _MASK32
            word = (word * constant) & _MASK32
            words[place] = word ^ (word >> _U(16))
        state_high = words[0] | (words[1] << _U(32))
        state_low = words[2] | (words[3] << _U(32))
        increment_high = words[4] | (words[5] << _U(32))
        increment_low = words[6] | (words[7] << _U(32))
        states[number, 2] = (increment_high << _U(1)) | (increment_low >> _U(63))
        states[number, 3] = (increment_low << _U(1)) | _U(1)
        states[number, 0] = states[number, 2]
        states[number, 1] = states[number, 3]
        low = states[number, 1] + state_low
        states[number, 0] += state_high + (_U(1) if low < state_low else _U(0))
        states[number, 1] = low
        _step(states, number)
    return states


@inlined
def _fill_pool(seed: np.uint64, pool: NDArray[np.uint64]) -> None:
    constant = _INIT_A
    for place in range(4):
        word = seed & _MASK32 if place == 0 else (seed >> _U(32) if place == 1 else _U(0))
        word ^= constant
        constant = (constant * _MULT_A) & _MASK32
        word = (word * constant) & _MASK32
        pool[place] = word ^ (word >> _U(16))
    for source in range(4):
        for target in range(4):
            if source != target:
                word = pool[source] ^ constant
                constant = (constant * _MULT_A) & _MASK32
                word = (word * constant) & _MASK32
                word ^= word >> _U(16)
                mixed = (_MIX_L * pool[target] - _MIX_R * word) & _MASK32
                pool[target] = mixed ^ (mixed >> _U(16))


@inlined
def _step(states: States, number: int) -> None:
    """State = state * multiplier + increment, modulo 2¹²⁸."""
    high, low = states[number, 0], states[number, 1]
    by_high, by_low = _MULTIPLIER
    a, b = low >> _U(32), low & _MASK32
    c, d = by_low >> _U(32), by_low & _MASK32
    middle = a * d + ((b * d) >> _U(32))
    other = b * c + (middle & _MASK32)
    carried = a * c + (middle >> _U(32)) + (other >> _U(32))
    product = low * by_low
    total = product + states[number, 3]
    overflow = _U(1) if total < product else _U(0)
    states[number, 0] = carried + high * by_low + low * by_high + states[number, 2] + overflow
    states[number, 1] = total


@inlined
def _next_word(states: States, number: int) -> np.uint64:
    _step(states, number)
    high, low = states[number, 0], states[number, 1]
    turned = high ^ low
    by = high >> _U(58)
    return (turned >> by) | (turned << ((_U(64) - by) & _U(63)))


@inlined
def next_uniform(states: States, number: int) -> float:
    """What `Generator.random` gives next."""
    return float(_next_word(states, number) >> _U(11)) * _UNIT


@inlined
def next_exponential(states: States, number: int) -> float:
    """What `Generator.standard_exponential` gives next."""
    while True:
        word = _next_word(states, number) >> _U(3)
        layer = word & _U(0xFF)
        word >>= _U(8)
        x = float(word) * _WIDTHS[layer]
        if word < _LAYERS[layer]:
            return x
        if layer == _U(0):
            return _TAIL - math.log1p(-next_uniform(states, number))
        below = _HEIGHTS[layer - _U(1)] - _HEIGHTS[layer]
        if below * next_uniform(states, number) + _HEIGHTS[layer] < math.exp(-x):
            return x
