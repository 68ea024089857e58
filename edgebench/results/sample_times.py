"""The stamps of samples, each made by the clock of the machine that it passed, on the server's clock.

Of a sample all stamps of one machine are moved by the same time, so that what lies between two of them is as that
machine's clock had it: the latency, from due to arrival, is the device's own, and the hops add up to it. What is not
known of the clocks stands in the hops that lead from a machine to another.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from edgebench.results.chunks import ABSENT, BY_DECIDER, BY_DEVICE, BY_EDGE, BY_HEAD, Bools, Crossed, SampleChunk
from edgebench.results.clock_tracks import UNKNOWN_NS, ClockTrack
from edgebench.results.observations import Observations
from edgebench.results.server_time import ServerTime
from edgebench.results.values import Ints
from edgebench.topology.deployment import HERE, Deployment


@dataclass(frozen=True)
class _Stamped:
    """What a sample passed, and the stamps that it got there: `first` comes before the others."""

    names: tuple[str, ...]
    first: str


_DEVICE = _Stamped(BY_DEVICE, "scheduled_ns")
_EDGE = _Stamped(BY_EDGE, "forward_in_ns")
_DEVICE_WITH_HEAD = _Stamped((*BY_DEVICE, *BY_HEAD), "scheduled_ns")
_EDGE_WITH_HEAD = _Stamped((*BY_EDGE, *BY_HEAD), "forward_in_ns")
_DECIDER = _Stamped(BY_DECIDER, "received_ns")
_BETWEEN_OWN = {"scheduled_ns", "captured_ns", "ready_ns", "started_ns"}
"""Stamps before and after which a sample is on the same machine."""


class SampleTimes:
    """Of one run."""

    def __init__(self, deployment: Deployment, observations: Observations) -> None:
        time = ServerTime(deployment, observations.machines)
        self._clocks: list[ClockTrack | None] = [None, *time.tracks.values()]
        """By the number of a machine; the server's is 0."""
        numbers = {name: number for number, name in enumerate((HERE, *time.tracks))}
        self._machine = {node: numbers[plan.machine] for node, plan in deployment.nodes.items()}
        self._edges = {node.name: [self._machine[site] for site in node.sites] for node in deployment.of_tier("device")}

    def on_server(self, chunk: SampleChunk) -> SampleChunk:
        """The same samples; as they are, where the run had one machine."""
        if len(self._clocks) == 1:
            return chunk
        ns = dict(chunk.ns)
        by_machine: dict[str, Ints] = {}
        bounds_ns: dict[str, Ints] = {}
        edges = {node: sites[0] for node, sites in self._edges.items() if sites}
        device, edge = (_DEVICE_WITH_HEAD, _EDGE) if chunk.head_on_device else (_DEVICE, _EDGE_WITH_HEAD)
        for passed, machine in (
            (device, _numbers(chunk, "node", self._machine)),
            (edge, _numbers(chunk, "node", edges)),
            (_DECIDER, _numbers(chunk, "decider", self._machine)),
        ):
            by_machine |= dict.fromkeys(passed.names, machine)
            bounds_ns |= {name: np.zeros(len(chunk), np.int64) for name in passed.names}
            for number, clock in enumerate(self._clocks):
                if clock is not None:
                    self._move(passed, clock, machine == number, chunk.ns, ns, bounds_ns)
        # A record does not say at which of its sites a device that moves was taken in.
        several = {node: int(len(set(sites)) > 1) for node, sites in self._edges.items()}
        unknown = _numbers(chunk, "node", several) == 1
        for name in edge.names:
            bounds_ns[name][unknown] = UNKNOWN_NS
        own_ns = {name: chunk.ns[name] for name in BY_DEVICE}
        return replace(chunk, ns=ns, crossed=Crossed(by_machine, bounds_ns, own_ns))

    @staticmethod
    def _move(
        passed: _Stamped,
        clock: ClockTrack,
        mine: Bools,
        own_ns: Mapping[str, Ints],
        ns: dict[str, Ints],
        bounds_ns: dict[str, Ints],
    ) -> None:
        """Bring those samples that are `mine` to the server's clock."""
        mine = mine & (own_ns[passed.first] != ABSENT)
        if not mine.any():
            return
        moved_ns, _ = clock.at(own_ns[passed.first][mine])
        for name in (each for each in passed.names if each in own_ns):
            stamps = own_ns[name][mine]
            there = stamps != ABSENT
            column = ns[name].copy()
            column[mine] = np.where(there, stamps + moved_ns, ABSENT)
            ns[name] = column
            if name not in _BETWEEN_OWN:
                offset_ns, bound_ns = clock.at(stamps)
                bounds_ns[name][mine] = np.where(there, np.abs(offset_ns - moved_ns) + bound_ns, 0)


def _numbers(chunk: SampleChunk, column: str, numbers: Mapping[str, int]) -> Ints:
    """The number of each sample's node or decider [sample]; 0 where it has none."""
    of_name = np.array([*(numbers.get(name, 0) for name in chunk.names[column]), 0], np.int64)
    return of_name[chunk.codes[column]]
