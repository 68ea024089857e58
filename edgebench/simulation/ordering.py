"""What arrives at a station in order of time, a part of a window after another.

Most of it comes in order but for little, which is mended. Else, since times within a part are spread over it, messages
are dealt into buckets by time first. Source: Dobosiewicz 1978, distributive partitioning.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from edgebench.simulation.columns import AT, DEVICE, FAR, FIRST, FLOW, NEAR, SEQ, Bag, Ints, Rows
from edgebench.simulation.jit import inlined, jit, making

_FEW, _MOVES = 48, 4
"""So many are put in order as they are; and more, where so many moves for each are enough."""


class Room(NamedTuple):
    """Where messages are put in order. slots: the messages, in the order of keys, whose lower bits are places among
    those that were taken [as many as there are]; upto: by bucket."""

    slots: Ints
    taken: Ints
    keys: Ints
    dealt: Ints
    upto: NDArray[np.int32]


def room(capacity: int, messages: int) -> Room:
    """For as many messages as there are; about so many come in a part of a window."""
    slots, taken, keys, dealt = (np.empty(capacity, np.int64) for _ in range(4))
    return Room(slots, taken, keys, dealt, np.zeros(1 << max(6, messages.bit_length()), np.int32))


@jit
def in_order(bag: Bag, rows: Rows, base: int, until: int, end: int, bits: int, into: Room) -> int:
    """Take what is at its station before `until` out of a bag, in order of time and, of one time, of workload, device
    and number: into `into.slots`; how many.

    Nothing in the bag is there before `base`. What is there only after `end`, when the window ends that this is a part
    of, is put off until then. bits: so many are enough for the place of any message.
    """
    slots, taken, keys = into.slots, into.taken, into.keys
    n, left, far, half = 0, FIRST, bag[FAR], (len(bag) - FIRST) // 2
    before, is_in_order, is_one_by_one = np.int64(-1), True, True
    for place in range(FIRST, FIRST + bag[NEAR]):
        slot = bag[place]
        at = rows[slot, AT]
        if at < until:
            is_in_order = is_in_order and at >= before
            is_one_by_one = is_one_by_one and at > before
            before = at
            keys[n] = ((at - base) << bits) | n
            slots[n] = slot
            n += 1
        elif at < end:
            bag[left] = slot
            left += 1
        else:
            bag[FIRST + half + far] = slot
            far += 1
    bag[NEAR], bag[FAR] = left - FIRST, far
    if not is_in_order:
        if not _mended(keys, n, _MOVES * n + _FEW * _FEW):
            _deal(keys, n, (until - base) << bits, into.dealt, into.upto)
            _mended(keys, n, n * n)
        mask = (1 << bits) - 1
        for place in range(n):
            taken[place] = slots[place]
        for place in range(n):
            slots[place] = taken[keys[place] & mask]
    if not is_one_by_one:
        _by_rank(keys, n, bits, rows, slots)
    return n


@jit
def brought_forward(bag: Bag) -> None:
    """What was put off is looked at from now on."""
    half = (len(bag) - FIRST) // 2
    for place in range(FIRST, FIRST + bag[FAR]):
        bag[bag[NEAR] + place] = bag[half + place]
    bag[NEAR] += bag[FAR]
    bag[FAR] = 0


@jit
def poured(bag: Bag, start: int, end: int, into: Bag) -> None:
    """Some of a bag goes into another one as well: from place `start` to `end`."""
    for place in range(FIRST + start, FIRST + end):
        into[into[NEAR] + place - start] = bag[place]
    into[NEAR] += end - start


@jit
def poured_out(bag: Bag, into: Bag) -> None:
    """All that was not put off goes into another bag."""
    poured(bag, 0, bag[NEAR], into)
    bag[NEAR] = 0


@making
def _deal(keys: Ints, n: int, most: int, dealt: Ints, upto: NDArray[np.int32]) -> None:
    """Put keys below `most` in order by bucket; a bucket with many of them, as where all have one time, by itself."""
    buckets = 64
    while buckets < n and buckets < len(upto):
        buckets *= 2
    shift = 0
    while most >> shift >= buckets:
        shift += 1
    for bucket in range(buckets):
        upto[bucket] = 0
    for place in range(n):
        upto[keys[place] >> shift] += 1
    start = 0
    for bucket in range(buckets):
        many = upto[bucket]
        upto[bucket] = start
        start += many
    for place in range(n):
        bucket = keys[place] >> shift
        dealt[upto[bucket]] = keys[place]
        upto[bucket] += 1
    start = 0
    for bucket in range(buckets):
        end = upto[bucket]
        if end - start > _FEW:
            dealt[start:end].sort()
        start = end
    for place in range(n):
        keys[place] = dealt[place]


@jit
def _mended(keys: Ints, n: int, moves: int) -> bool:
    """Sort what is nearly in order; whether so many moves were enough."""
    for place in range(1, n):
        key, to = keys[place], place
        while to > 0 and keys[to - 1] > key:
            keys[to] = keys[to - 1]
            to -= 1
        keys[to] = key
        moves -= place - to
        if moves < 0:
            return False
    return True


@jit
def _by_rank(keys: Ints, n: int, bits: int, rows: Rows, slots: Ints) -> None:
    """Put messages of one time in order, by sorted keys."""
    start, is_in_order = 0, True
    for place in range(1, n + 1):
        if place == n or keys[place] >> bits != keys[start] >> bits:
            if not is_in_order:
                _sort(slots, start, place, rows)
            start, is_in_order = place, True
        elif _is_before(slots[place], slots[place - 1], rows):
            is_in_order = False


@jit
def _sort(slots: Ints, start: int, end: int, rows: Rows) -> None:
    """Sort a run of messages by workload, device and number. Source: Shell 1959."""
    gap = (end - start) // 2 if end - start > _FEW else 1
    while gap:
        for place in range(start + gap, end):
            slot, to = slots[place], place
            while to >= start + gap and _is_before(slot, slots[to - gap], rows):
                slots[to] = slots[to - gap]
                to -= gap
            slots[to] = slot
        gap //= 2


@inlined
def _is_before(one: int, other: int, rows: Rows) -> bool:
    for column in (FLOW, DEVICE, SEQ):
        if rows[one, column] != rows[other, column]:
            return rows[one, column] < rows[other, column]
    return False
