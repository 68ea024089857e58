"""What the machines of a run stamped by clocks of their own, on the server's clock."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import msgspec
import numpy as np

from edgebench.clock import NS_PER_S
from edgebench.core.clocks import Exchange, quickest
from edgebench.core.device import Moved
from edgebench.core.replacing import Replaced
from edgebench.fabric.records import (
    Began,
    Compared,
    Died,
    Entry,
    Faulted,
    HostUsage,
    MachineFacts,
    Modelled,
    ReplyRecord,
    Rounded,
    Swapped,
    TookPart,
    Usage,
)
from edgebench.results.clock_tracks import ClockTrack
from edgebench.results.observations import Lateness, MachineSeen
from edgebench.topology.deployment import HERE, Deployment

MOST_EXCHANGES = 3_600
"""Of a machine, that a run keeps; of more the quickest of each of so many times."""


@dataclass(frozen=True)
class ServerTime:
    """machines: all but the server. On a run of one machine there are none, and every stamp stays as it is."""

    deployment: Deployment
    machines: Mapping[str, MachineSeen]

    @cached_property
    def tracks(self) -> dict[str, ClockTrack]:
        """The clocks that are not the server's, by machine."""
        return {name: ClockTrack(seen.exchanges) for name, seen in self.machines.items()}

    def of(self, machine: str, at_ns: int) -> int:
        """A stamp of a machine."""
        return at_ns if machine not in self.tracks else self.tracks[machine].to_server(at_ns)

    def computer(self, machine: str) -> str:
        """Of the machines that share its cores the first."""
        return (machine in self.machines and self.machines[machine].facts.computer) or machine

    def entry(self, machine: str, entry: Entry) -> Entry:
        """An entry of a machine. Use, hiccups and samples, which are many, stay as they are: see `usage`, `host_usage`,
        `lateness` and `SampleChunk.on_server`."""
        if not self.tracks:
            return entry
        if isinstance(entry, Rounded):
            return self._round(machine, entry)
        if machine not in self.tracks:
            return entry
        return _with_stamps(entry, self.tracks[machine])

    def usage(self, machine: str, used: list[Usage]) -> list[Usage]:
        """Those of one process of a machine."""
        if machine not in self.tracks:
            return used
        at_ns = self._all_of(machine, [each.at_ns for each in used])
        return [msgspec.structs.replace(each, at_ns=at) for each, at in zip(used, at_ns, strict=True)]

    def host_usage(self, machine: str, used: list[HostUsage]) -> list[HostUsage]:
        """Those of a machine."""
        if machine not in self.tracks:
            return used
        at_ns = self._all_of(machine, [each.at_ns for each in used])
        since_ns = self._all_of(machine, [each.at_ns if each.since_ns is None else each.since_ns for each in used])
        return [
            msgspec.structs.replace(each, at_ns=at, since_ns=None if each.since_ns is None else since)
            for each, at, since in zip(used, at_ns, since_ns, strict=True)
        ]

    def lateness(self, machine: str, late: list[Lateness]) -> list[Lateness]:
        """Those of a machine; its seconds stay its own."""
        if machine not in self.tracks:
            return late
        from_ns = [each.second * NS_PER_S for each in late]
        ahead_ns = (server - own for server, own in zip(self._all_of(machine, from_ns), from_ns, strict=True))
        return [
            msgspec.structs.replace(each, machine=machine, ahead_ns=ahead)
            for each, ahead in zip(late, ahead_ns, strict=True)
        ]

    def _all_of(self, machine: str, at_ns: Sequence[int]) -> list[int]:
        stamps = np.array(at_ns, np.int64)
        offset_ns, _ = self.tracks[machine].at(stamps)
        found: list[int] = (stamps + offset_ns).tolist()
        return found

    def _round(self, machine: str, entry: Rounded) -> Rounded:
        record, track = entry.record, self.tracks.get(machine)
        if track is not None and not record.resumed:
            record = msgspec.structs.replace(
                record,
                started_ns=track.to_server(record.started_ns),
                gathered_ns=track.to_server(record.gathered_ns),
                ended_ns=track.to_server(record.ended_ns),
            )
        replies = tuple(self._reply(machine, reply) for reply in record.replies)
        return Rounded(msgspec.structs.replace(record, replies=replies))

    def _reply(self, machine: str, reply: ReplyRecord) -> ReplyRecord:
        """The client says when it had the request where it says when it learned."""
        client = self.deployment.nodes[reply.node].machine
        by = {
            "asked_ns": machine,
            "delivered_ns": machine if reply.started_ns is None else client,
            "started_ns": client,
            "finished_ns": client,
            "arrived_ns": machine,
        }
        stamps = {name: getattr(reply, name) for name in by}
        found = {name: self.of(by[name], at_ns) for name, at_ns in stamps.items() if at_ns is not None}
        return msgspec.structs.replace(reply, **found)


def machines_in(entries: Iterable[Entry], deployment: Deployment) -> dict[str, MachineSeen]:
    """The machines besides the server, from what the command wrote down; of a run that was cut off before, no more than
    their names."""
    names = {node.machine for node in deployment.nodes.values()} - {HERE}
    facts = {name: MachineFacts(name, "", 0, 0, "") for name in sorted(names)}
    exchanges: dict[str, dict[int, Exchange]] = {}
    for entry in entries:
        if isinstance(entry, TookPart):
            facts[entry.machine.name] = entry.machine
        elif isinstance(entry, Compared):
            exchanges.setdefault(entry.machine, {}).update((each.t0_ns, each) for each in entry.exchanges)
    return {name: MachineSeen(each, _few(exchanges.get(name, {}))) for name, each in facts.items()}


def _few(exchanges: Mapping[int, Exchange]) -> list[Exchange]:
    """In their order. exchanges: by `t0_ns`."""
    at_ns = sorted(exchanges)
    ordered = [exchanges[each] for each in at_ns]
    if len(ordered) <= MOST_EXCHANGES:
        return ordered
    return quickest(ordered, math.ceil((at_ns[-1] - at_ns[0] + 1) / (MOST_EXCHANGES - 1)))


def _with_stamps(entry: Entry, clock: ClockTrack) -> Entry:
    """The entry with all of its stamps on the server's clock."""

    def at(own_ns: int) -> int:
        return clock.to_server(own_ns)

    def at_if_any(own_ns: int | None) -> int | None:
        return None if own_ns is None else clock.to_server(own_ns)

    match entry:
        case Swapped(swap=swap):
            fetched_ns, swapped_ns = at(swap.fetched_ns), at(swap.swapped_ns)
            return Swapped(msgspec.structs.replace(swap, fetched_ns=fetched_ns, swapped_ns=swapped_ns))
        case Moved():
            return msgspec.structs.replace(entry, left_ns=at(entry.left_ns), up_ns=at_if_any(entry.up_ns))
        case Began():
            return Began(at(entry.start_ns), at(entry.end_ns))
        case Modelled(event=event):
            ready_ns, announced_ns = at(event.ready_ns), at_if_any(event.announced_ns)
            return Modelled(msgspec.structs.replace(event, ready_ns=ready_ns, announced_ns=announced_ns))
        case Faulted() | Replaced():
            return msgspec.structs.replace(entry, at_ns=at(entry.at_ns))
        case Died(death=death):
            return Died(msgspec.structs.replace(death, at_ns=at(death.at_ns)))
        case _:
            return entry
