"""`seeds.seed_for` of very many nodes at once, whose names differ by a number alone.

Source: SHA-256, FIPS 180-4."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from edgebench.simulation.jit import inlined, jit, making

Seeds = NDArray[np.uint64]

_U = np.uint64
_MASK32 = _U(0xFFFFFFFF)
_MOST_DIGITS = 20
_BLOCK_BYTES, _PADDING_BYTES = 64, 9
_PRIMES = [n for n in range(2, 312) if all(n % divisor for divisor in range(2, math.isqrt(n) + 1))]


def _root_bits(prime: int) -> int:
    """The first 32 bits behind the point of the cube root of a prime."""
    cube = prime << 96
    root = round(prime ** (1 / 3) * 2.0**32)
    while root**3 > cube:
        root -= 1
    while (root + 1) ** 3 <= cube:
        root += 1
    return root & 0xFFFFFFFF


_CONSTANTS = np.array([_root_bits(prime) for prime in _PRIMES], np.uint64)
_BEGINNING = np.array([math.isqrt(prime << 64) & 0xFFFFFFFF for prime in _PRIMES[:8]], np.uint64)


def numbered_seeds(count: int, seed: int, *purpose: str) -> Seeds:
    """`seed_for(seed, *purpose)` with 0, 1, … `count - 1` behind the last part of the purpose [number]."""
    text = "\x1f".join([str(seed), *purpose])
    return _numbered(np.frombuffer(text.encode(), np.uint8), count)


@making
def _numbered(text: NDArray[np.uint8], count: int) -> Seeds:
    found = np.empty(count, np.uint64)
    room = np.zeros(len(text) + _MOST_DIGITS + _PADDING_BYTES + _BLOCK_BYTES, np.uint8)
    room[: len(text)] = text
    state = np.empty(8, np.uint64)
    words = np.empty(_BLOCK_BYTES, np.uint64)
    for number in range(count):
        digits = 1
        rest = number // 10
        while rest:
            digits += 1
            rest //= 10
        size = len(text) + digits
        rest = number
        for place in range(size - 1, len(text) - 1, -1):
            room[place] = 48 + rest % 10
            rest //= 10
        blocks = (size + _PADDING_BYTES + _BLOCK_BYTES - 1) // _BLOCK_BYTES
        room[size] = 0x80
        room[size + 1 : blocks * _BLOCK_BYTES] = 0
        for place in range(4):  # of a length in bits, which is far below 2³²
            room[blocks * _BLOCK_BYTES - 1 - place] = ((8 * size) >> (8 * place)) & 0xFF
        state[:] = _BEGINNING
        for block in range(blocks):
            _take(room, block * _BLOCK_BYTES, words, state)
        found[number] = ((state[0] << _U(32)) | state[1]) >> _U(1)
    return found


@inlined
def _turned(x: np.uint64, one: np.uint64, two: np.uint64, three: np.uint64) -> np.uint64:
    """Three rotations to the right of 32 bits, added without carrying."""
    twice = x | (x << _U(32))
    return ((twice >> one) ^ (twice >> two) ^ (twice >> three)) & _MASK32


@inlined
def _shifted(x: np.uint64, one: np.uint64, two: np.uint64, three: np.uint64) -> np.uint64:
    """Two rotations and a shift, likewise."""
    twice = x | (x << _U(32))
    return (((twice >> one) ^ (twice >> two)) & _MASK32) ^ (x >> three)


@jit
def _take(room: NDArray[np.uint8], start: int, words: Seeds, state: Seeds) -> None:
    """Take a block into the state."""
    for place in range(16):
        word = _U(0)
        for byte in range(4):
            word = (word << _U(8)) | _U(room[start + 4 * place + byte])
        words[place] = word
    for place in range(16, 64):
        early = _shifted(words[place - 15], _U(7), _U(18), _U(3))
        late = _shifted(words[place - 2], _U(17), _U(19), _U(10))
        words[place] = (words[place - 16] + early + words[place - 7] + late) & _MASK32
    a, b, c, d = state[0], state[1], state[2], state[3]
    e, f, g, h = state[4], state[5], state[6], state[7]
    for place in range(64):
        chosen = (e & f) ^ ((e ^ _MASK32) & g)
        one = h + _turned(e, _U(6), _U(11), _U(25)) + chosen + _CONSTANTS[place] + words[place]
        most = (a & b) ^ (a & c) ^ (b & c)
        two = _turned(a, _U(2), _U(13), _U(22)) + most
        h, g, f, e = g, f, e, (d + one) & _MASK32
        d, c, b, a = c, b, a, (one + two) & _MASK32
    state[0] = (state[0] + a) & _MASK32
    state[1] = (state[1] + b) & _MASK32
    state[2] = (state[2] + c) & _MASK32
    state[3] = (state[3] + d) & _MASK32
    state[4] = (state[4] + e) & _MASK32
    state[5] = (state[5] + f) & _MASK32
    state[6] = (state[6] + g) & _MASK32
    state[7] = (state[7] + h) & _MASK32
