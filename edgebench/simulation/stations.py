"""Stations by themselves, on arrays: when what arrives at one leaves it. Times are whole numbers, of any unit.

A first-in-first-out station is a scan: what arrives when it is free is served at once, all else when it is free again.
Source: Lindley 1952; Ebert et al. 2020, queuecomputer.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edgebench.simulation.jit import making

Ints = NDArray[np.int64]


@making
def fifo(arrivals: Ints, services: Ints) -> Ints:
    """Departures [n] from a station that serves one after another. arrivals [n]: ascending; services [n]."""
    departures = np.empty_like(arrivals)
    free = np.int64(0)
    for n in range(len(arrivals)):
        free = max(free, arrivals[n]) + services[n]
        departures[n] = free
    return departures


@making
def fifo_by_group(arrivals: Ints, services: Ints, group: Ints, groups: int) -> Ints:
    """As `fifo`, of several stations at once: arrivals [n] are ascending, group [n] says at which each is."""
    departures = np.empty_like(arrivals)
    free = np.zeros(groups, np.int64)
    for n in range(len(arrivals)):
        departures[n] = free[group[n]] = max(free[group[n]], arrivals[n]) + services[n]
    return departures


@making
def fifo_chain(arrivals: Ints, services: Ints) -> Ints:
    """Departures [n] from the last of some stations, one behind another. services [station, n]."""
    stations, count = services.shape
    departures = np.empty_like(arrivals)
    free = np.zeros(stations, np.int64)
    for n in range(count):
        at = arrivals[n]
        for station in range(stations):
            at = max(free[station], at) + services[station, n]
            free[station] = at
        departures[n] = at
    return departures


@making
def fifo_workers(arrivals: Ints, services: Ints, workers: int) -> Ints:
    """Departures [n] from a station whose `workers` serve one each, the one that is free first the next."""
    departures = np.empty_like(arrivals)
    free = np.zeros(workers, np.int64)  # a heap
    for n in range(len(arrivals)):
        left = max(free[0], arrivals[n]) + services[n]
        departures[n] = left
        place = 0
        while True:
            child = 2 * place + 1
            if child >= workers:
                break
            if child + 1 < workers and free[child + 1] < free[child]:
                child += 1
            if free[child] >= left:
                break
            free[place] = free[child]
            place = child
        free[place] = left
    return departures
