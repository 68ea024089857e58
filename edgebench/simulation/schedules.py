"""When samples fall due, a window of time at a time: the schedules of `core.schedules`, of all devices at once."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from edgebench.clock import NS_PER_S
from edgebench.simulation.columns import Ints
from edgebench.simulation.fleet import Group
from edgebench.simulation.jit import jit, making
from edgebench.simulation.seeded import States, generators, next_exponential, next_uniform
from edgebench.topology.model import Fixed, Load, Poisson, Server, Trace


class Schedule(Protocol):
    """The samples of one workload, whose devices are sources from `first` on."""

    def fill(self, keys: Ints, n: int, base: int, until: int, bits: int) -> int:
        """Add a key, `(due - base) << bits | source`, behind the first `n` for each sample that is due before `until`.

        How many keys there are then. As many as fit in mean that it is to be called again, with room for more.
        """
        ...


class PoissonSchedule:
    """Exponential gaps on each device."""

    def __init__(self, rate_hz: float, seed: int, paced_by: str, groups: Iterable[Group], first: int, end: int) -> None:
        self._scale = NS_PER_S / rate_hz
        self._states = generators(seed, "load", paced_by, groups)
        self._at = _first_gaps(self._states, self._scale)
        self._first = first
        self._end = end

    def fill(self, keys: Ints, n: int, base: int, until: int, bits: int) -> int:
        """See `Schedule`."""
        until = min(until, self._end)
        return _fill_poisson(self._states, self._at, self._scale, until, base, bits, self._first, keys, n)


class FixedSchedule:
    """Equal gaps, each device with its own phase."""

    def __init__(self, rate_hz: float, seed: int, paced_by: str, groups: Iterable[Group], first: int, end: int) -> None:
        self._period = NS_PER_S / rate_hz
        self._phase = _phases(generators(seed, "load", paced_by, groups), self._period)
        self._count = np.zeros(len(self._phase), np.int64)
        self._first = first
        self._end = end

    def fill(self, keys: Ints, n: int, base: int, until: int, bits: int) -> int:
        """See `Schedule`."""
        until = min(until, self._end)
        return _fill_fixed(self._phase, self._count, self._period, until, base, bits, self._first, keys, n)


class TraceSchedule:
    """The same times on every device."""

    def __init__(self, trace_s: Sequence[float], devices: int, first: int, end: int) -> None:
        times = np.array([int(at_s * NS_PER_S) for at_s in trace_s], np.int64)
        self._times = times[times < end]
        self._next = np.zeros(devices, np.int64)
        self._first = first

    def fill(self, keys: Ints, n: int, base: int, until: int, bits: int) -> int:
        """See `Schedule`."""
        return _fill_trace(self._times, self._next, until, base, bits, self._first, keys, n)


def schedule(
    load: Load,
    *,
    seed: int,
    paced_by: str,
    groups: Iterable[Group],
    devices: int,
    first: int,
    end_ns: int,
    trace_s: Sequence[float],
) -> Schedule:
    """The schedule of an open load on so many devices; `paced_by` names the workload that it is drawn for."""
    match load:
        case Poisson(rate_hz=rate_hz) | Server(rate_hz=rate_hz):
            return PoissonSchedule(rate_hz, seed, paced_by, groups, first, end_ns)
        case Fixed(rate_hz=rate_hz):
            return FixedSchedule(rate_hz, seed, paced_by, groups, first, end_ns)
        case Trace():
            return TraceSchedule(trace_s, devices, first, end_ns)
        case _:
            raise AssertionError(f"{type(load).__name__} is no open load")


@making
def _first_gaps(states: States, scale: float) -> NDArray[np.float64]:
    at = np.empty(len(states))
    for device in range(len(states)):
        at[device] = 0.0 + scale * next_exponential(states, device)
    return at


@jit
def _fill_poisson(
    states: States,
    at: NDArray[np.float64],
    scale: float,
    until: int,
    base: int,
    bits: int,
    first: int,
    keys: Ints,
    n: int,
) -> int:
    for device in range(len(at)):
        while at[device] < until:
            if n == len(keys):
                return n
            keys[n] = ((np.int64(at[device]) - base) << bits) | (first + device)
            n += 1
            at[device] = at[device] + scale * next_exponential(states, device)
    return n


@making
def _phases(states: States, period: float) -> NDArray[np.float64]:
    phases = np.empty(len(states))
    for device in range(len(states)):
        phases[device] = 0.0 + period * next_uniform(states, device)
    return phases


@jit
def _fill_fixed(
    phase: NDArray[np.float64],
    count: Ints,
    period: float,
    until: int,
    base: int,
    bits: int,
    first: int,
    keys: Ints,
    n: int,
) -> int:
    for device in range(len(phase)):
        while True:
            due = np.int64(phase[device] + count[device] * period)
            if due >= until:
                break
            if n == len(keys):
                return n
            keys[n] = ((due - base) << bits) | (first + device)
            n += 1
            count[device] += 1
    return n


@jit
def _fill_trace(times: Ints, following: Ints, until: int, base: int, bits: int, first: int, keys: Ints, n: int) -> int:
    for device in range(len(following)):
        while following[device] < len(times) and times[following[device]] < until:
            if n == len(keys):
                return n
            keys[n] = ((times[following[device]] - base) << bits) | (first + device)
            n += 1
            following[device] += 1
    return n
