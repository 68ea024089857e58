"""`observations.json`: all that a run directory knows besides its deployment and its sample rows."""

from __future__ import annotations

import msgspec

from edgebench.core.clocks import Exchange
from edgebench.core.device import Moved
from edgebench.core.releases import Releases
from edgebench.core.replacing import Replaced
from edgebench.core.tallies import Tally
from edgebench.fabric.records import (
    AppMetrics,
    Brokered,
    Cascaded,
    Chained,
    Death,
    FaultAsked,
    Faulted,
    HostUsage,
    LinkObserved,
    MachineFacts,
    Metered,
    ModelEvent,
    Partitioned,
    RoundScored,
    Swap,
    Usage,
)
from edgebench.topology.deployment import HERE


class Lateness(msgspec.Struct, frozen=True, array_like=True):
    """How late the timers of a run's parts on a machine fired, in the `seconds` of its clock from `second` on.
    The server's clock is `ahead_ns` of it.

    mean_ns: of each part the mean lateness, and of these the mean over the parts, in the worst of the seconds. most_ns:
    the largest of all, in `part`. worst_ns: of the means of those parts that samples pass the largest. disturbed: in
    how many of the seconds foreign work was the cause (see `edgebench.results.host_conditions`).
    """

    second: int
    seconds: int
    mean_ns: int
    most_ns: int
    part: str
    worst_ns: int = 0
    disturbed: int = 0
    machine: str = HERE
    ahead_ns: int = 0


class MachineSeen(msgspec.Struct, frozen=True):
    """What is known of a machine besides the server. exchanges: of its own clock with the server's, of a long run the
    quickest of each of a few thousand times; processes: that ran there; versions: of what they run on."""

    facts: MachineFacts
    exchanges: list[Exchange]
    processes: list[str] = []
    host_usage: list[HostUsage] = []
    versions: dict[str, str] = {}


class LastLife(msgspec.Struct, frozen=True):
    """What a node counted since it was started for the last time. tallies: by workload."""

    incarnation: int
    tallies: dict[str, Tally]


class Observations(msgspec.Struct, frozen=True):
    """All that a run directory knows besides its deployment and its sample rows; `observations.json`. All stamps are
    on the server's clock, but those of `MachineSeen.exchanges`.

    started_ns..ended_ns: the time in which samples were due. tallies: node -> workload -> counts. last_lives: of
    nodes that were started again and ended in good order. hosts_of: process -> the nodes that it hosts; `usage` is by
    process. closed: nodes that ended in good order. data_sources: workload -> the source of its stream, `real_data` the
    workloads whose stream is not generated. invalidated: reasons that make
    the run invalid whatever the figures say (an interrupt, a failed roll-out, …). partitions, scores, app_metrics: of
    federations. faults: as they were brought about; faults_asked: those that waited for a condition, once it was met.
    cascades: as they were calibrated. chains: as their models were cut. moves: of devices, as they were made;
    replacements: of workloads that edges moved to the cloud, or back. brokers: of each site and the cloud.
    sensors: node -> workload -> the kind of a sensor that is really there. lateness, host_usage: of a long run they are
    merged to a few thousand. host_usage: of the server. machines: all others. released: by emulated nodes.
    meters: of machines whose power is measured. calibrated_by: what a simulation has its service times from, runs and
    profiles, each as `profile NAME`; doubts: why runs should not be trusted; overfull: what a run would have dropped
    of it, since a store has no room; silent: connections that a run would have lost, since nothing came through.
    """

    started_ns: int | None
    ended_ns: int | None
    command_started_ns: int
    tallies: dict[str, dict[str, Tally]]
    swaps: list[Swap]
    usage: dict[str, list[Usage]]
    hosts_of: dict[str, list[str]]
    closed: list[str]
    models: list[ModelEvent]
    links: list[LinkObserved]
    deaths: list[Death]
    host_usage: list[HostUsage]
    host: dict[str, str | int | float]
    versions: dict[str, str]
    data_sources: dict[str, str]
    invalidated: list[str] = []
    real_data: list[str] = []
    mistakes: list[str] = []
    partitions: list[Partitioned] = []
    scores: list[RoundScored] = []
    faults: list[Faulted] = []
    faults_asked: list[FaultAsked] = []
    cascades: list[Cascaded] = []
    moves: list[Moved] = []
    app_metrics: list[AppMetrics] = []
    lateness: list[Lateness] = []
    machines: dict[str, MachineSeen] = {}
    brokers: list[Brokered] = []
    refused: dict[str, dict[str, int]] = {}
    sensors: dict[str, dict[str, str]] = {}
    released: dict[str, Releases] = {}
    meters: dict[str, Metered] = {}
    calibrated_by: list[str] = []
    chains: list[Chained] = []
    replacements: list[Replaced] = []
    last_lives: dict[str, LastLife] = {}
    doubts: list[str] = []
    overfull: list[str] = []
    silent: list[str] = []
