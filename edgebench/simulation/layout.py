"""From a topology and what things take to the stations of a simulation: who sends what where, and what it costs
there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgebench.clock import NS_PER_MS, NS_PER_S
from edgebench.core.lanes import Way, rate_of
from edgebench.core.links import Pipe
from edgebench.core.timeouts import LONGEST_DRAIN_S
from edgebench.errors import EdgebenchError, TopologyError
from edgebench.fabric.records import Chained
from edgebench.seeds import seed_for
from edgebench.simulation import columns
from edgebench.simulation.chains import chained, place_for
from edgebench.simulation.columns import (
    AT_CLOUD,
    AT_EDGE,
    CASCADE,
    CHAIN,
    ON_DEVICE,
    Devices,
    Flows,
    Ints,
    Lanes,
    Sources,
    Tables,
)
from edgebench.simulation.contention import Contended, contended_groups
from edgebench.simulation.costs import Flow, costs_of, output_size
from edgebench.simulation.draws import JITTERS
from edgebench.simulation.fleet import Fleet, Group, fleet_of
from edgebench.simulation.learning import Learning, learning_of
from edgebench.simulation.moving import Visits, connecting_of, visits_of
from edgebench.simulation.schedules import Schedule, schedule
from edgebench.simulation.service_times import BYTES_A_VALUE, ServiceTimes
from edgebench.topology.deployment import LinkPlan
from edgebench.topology.link_model import Link
from edgebench.topology.link_traces import LinkTraces, link_traces_of
from edgebench.topology.model import (
    After,
    Fixed,
    Load,
    MultiStream,
    Offline,
    Poisson,
    Server,
    SingleStream,
    Topology,
    Trace,
    With,
    Workload,
)
from edgebench.topology.placing import where_of
from edgebench.topology.resolving import link_plan
from edgebench.topology.trace import read_trace
from edgebench.topology.wording import one_line

PROFILE = "profile "
"""What a profile is called by, where it is among what says what things take."""
_WHERES = {"device": ON_DEVICE, "edge": AT_EDGE, "cloud": AT_CLOUD, "cascade": CASCADE, "chain": CHAIN}


@dataclass(frozen=True)
class Layout:
    """All that does not change while it is simulated. links: of each group to that of its parents; shared: the groups
    all of whose links share a pipe; link_traces: what the links follow. contended: groups whose threads contend for
    cores. visits: of devices that move; connecting: what that takes each time besides the link, ns, by their group.
    traces: of workloads. chains: as a run would write them down. told_by: the runs that say what things take, and the
    profiles, each as `profile NAME`. learning: federations."""

    topology: Topology
    fleet: Fleet
    flows: tuple[Flow, ...]
    arrays: Flows
    tables: Tables
    links: Mapping[str, LinkPlan]
    shared: frozenset[str]
    link_traces: LinkTraces
    contended: Mapping[str, Contended]
    visits: Visits
    connecting: Mapping[str, Sequence[int]]
    traces: Mapping[str, tuple[float, ...]]
    chains: tuple[Chained, ...]
    told_by: tuple[str, ...]
    learning: tuple[Learning, ...] = ()

    @property
    def columns(self) -> int:
        """How many a row has."""
        return columns.COLUMNS_OF_CHAINS if self.chains else columns.COLUMNS

    @property
    def end_ns(self) -> int:
        """When samples stop to fall due."""
        return int(self.topology.duration_s * NS_PER_S)

    @property
    def until_ns(self) -> int:
        """When nothing is waited for any more."""
        return self.end_ns + round(LONGEST_DRAIN_S * NS_PER_S)

    @property
    def acts_back(self) -> bool:
        """Whether what happens somewhere changes what happens before it on a sample's way: closed loops, TCP where
        packets get lost, cores that threads wait for, devices that send again what is undecided as they move, and
        rounds of a federation, of which one begins when another is over."""
        loses = any(link.loses for link in self.links.values())
        acting = self.contended or self.visits or self.learning
        return bool(acting) or loses or any(is_closed(flow.load) for flow in self.flows)

    def expected(self) -> int:
        """About how many samples fall due."""
        duration_s = self.topology.duration_s
        each = (_samples(flow.load, duration_s, self.traces.get(flow.paced_by, ())) for flow in self.flows)
        return round(sum(n * len(flow.devices) for n, flow in zip(each, self.flows, strict=True)))

    def sources(self) -> Sources:
        """Each workload on each of its devices, before its first sample."""
        found = columns.in_lines(sum(len(flow.devices) for flow in self.flows), columns.SOURCE_COLUMNS, np.int32)
        for flow in self.flows:
            those = found[flow.first : flow.first + len(flow.devices)]
            those[:, columns.OF_FLOW] = flow.number
            those[:, columns.OF_DEVICE], those[:, columns.WHERE] = flow.devices, flow.where
        return found

    def devices(self) -> Devices:
        """All devices, with nothing to do."""
        found = columns.in_lines(self.fleet.count("device"), columns.DEVICE_COLUMNS)
        found[:, columns.GROUP], found[:, columns.EDGE] = self.fleet.group_of("device"), self.fleet.edge_of
        return found

    def schedules(self) -> list[Schedule]:
        """When the samples of each workload fall due."""
        return [
            schedule(
                flow.load,
                seed=self.topology.seed,
                paced_by=flow.paced_by,
                groups=[self.fleet.groups[source] for source in flow.plan.sources],
                devices=len(flow.devices),
                first=flow.first,
                end_ns=self.end_ns,
                trace_s=self.traces.get(flow.paced_by, ()),
            )
            for flow in self.flows
        ]

    def names(self, flow: Flow) -> Iterator[str]:
        """The names of a workload's devices."""
        return (name for source in flow.plan.sources for name in self.fleet.groups[source].nodes())

    def device_lanes(self, direction: Way, report: Ints) -> Lanes:
        """Those between devices and edges, `up` or `down`. report: as in `Lanes` [device]."""
        return self._lanes(self.fleet.of_tier("device"), report, direction)

    def edge_lanes(self, direction: Way) -> Lanes:
        """Those between edges and the cloud, `up` or `down`."""
        return self._lanes(self.fleet.of_tier("edge"), np.arange(self.fleet.count("edge")), direction)

    def _lanes(self, groups: list[Group], report: Ints, direction: Way) -> Lanes:
        kind = np.repeat(np.arange(len(groups)), [group.count for group in groups])
        pipe = np.arange(len(report))
        for group in groups:
            if group.name in self.shared:
                pipe[group.first : group.first + group.count] = group.first
        made = columns.lanes(kind, pipe, report, len(groups), self.until_ns)
        steps, delays = _EndToEnd(), _EndToEnd()
        for place, group in enumerate(groups):
            link, of = self.links[group.name], made.kinds[place]
            of[columns.LATENCY], of[columns.JITTER] = (
                round(each * NS_PER_MS) for each in (link.latency_ms, link.jitter_ms)
            )
            of[columns.LAW], of[columns.SHARED] = JITTERS.index(link.jitter), group.name in self.shared
            of[columns.CHANCE] = self.chance(group, direction)
            rate_mbit_s, trace = rate_of(link, direction)
            made.ns_per_byte[place] = Pipe(rate_mbit_s).ns_per_byte
            if trace is not None:
                rates = self.link_traces.rates[trace]
                of[columns.FIRST_STEP], of[columns.STEPS] = steps.add(
                    trace, [np.cumsum(rates.gaps_ms), np.cumsum(rates.packets)]
                )
            if link.delay_trace is not None:
                of[columns.JITTER] = 1  # delays vary by it, however near their quartiles are
                of[columns.FIRST_DELAY], of[columns.DELAYS] = delays.add(link.delay_trace, [self.off_ns(link)])
        times_ms, upto = steps.whole(2)
        (off_ns,) = delays.whole(1)
        leaving = np.zeros((len(report) if len(upto) else 0, columns.LEAVING_COLUMNS), np.int64)
        return made._replace(times_ms=times_ms, upto=upto, off_ns=off_ns, leaving=leaving)

    def chance(self, group: Group, direction: Way, site: str = "") -> int:
        """The stream of that by which links of a group vary. site: of a device that moves, the one that it has come
        to."""
        return seed_for(self.topology.seed, "simulate", "jitter", group.name, direction, *([site] if site else []))

    def off_ns(self, link: LinkPlan) -> list[int]:
        """How far off its latency the delays of a link are that follow a trace."""
        delays_ms = () if link.delay_trace is None else self.link_traces.delays[link.delay_trace]
        return [round(NS_PER_MS * (delay_ms - link.latency_ms)) for delay_ms in delays_ms]


class _EndToEnd:
    """Traces one behind another, each once."""

    def __init__(self) -> None:
        self._found: dict[str, tuple[int, int]] = {}
        self._parts: list[list[Ints]] = []
        self._n = 0

    def add(self, name: str, trace: Sequence[Sequence[int] | Ints]) -> tuple[int, int]:
        """Where a trace begins, and how long it is. trace: its columns, each as long."""
        if name not in self._found:
            self._parts.append([np.asarray(each, np.int64) for each in trace])
            n = len(trace[0])
            self._found[name], self._n = (self._n, n), self._n + n
        return self._found[name]

    def whole(self, width: int) -> list[Ints]:
        """So many columns of all of them."""
        none = np.zeros(0, np.int64)
        return [np.concatenate([none, *(part[column] for part in self._parts)]) for column in range(width)]


def _samples(load: Load, duration_s: float, trace_s: tuple[float, ...]) -> float:
    """How many fall due on a device, about."""
    match load:
        case Fixed(rate_hz=rate_hz) | Poisson(rate_hz=rate_hz) | Server(rate_hz=rate_hz):
            return rate_hz * duration_s
        case Offline(samples=samples):
            return samples
        case Trace():
            return len(trace_s)
        case _:  # nobody knows before
            return 0.0


def is_closed(load: Load) -> bool:
    """Whether what is decided, or under way, changes when something is sent."""
    return isinstance(load, SingleStream | MultiStream | Offline | After)


def layout_of(topology: Topology, times: ServiceTimes, file: str | Path) -> Layout:
    """The stations of a topology that was checked and can be simulated.

    What things take is known by runs and, where these do not tell, by the profiles of nodes. Raises TopologyError with
    a line for each workload of which something that it takes is not known.
    """
    fleet = fleet_of(topology)
    flows = tuple(_flows(topology, fleet, _cuts(topology, times, file)))
    contended = contended_groups(topology, fleet, flows, times, file)
    visits = visits_of(topology, fleet, flows)
    arrays, tables, profiles = costs_of(topology, fleet, flows, times, file, contended)
    links, link_traces = {link.between[0]: link for link in topology.links}, link_traces_of(topology)
    pairs = {group.name: (group.name, group.parent) for group in fleet.groups.values() if group.parent is not None}
    traces = {
        name: tuple(read_trace(workload.load.file))
        for name, workload in topology.workloads.items()
        if isinstance(workload.load, Trace)
    }
    between = {name: link_plan(links.get(name, Link(between=pair)), link_traces) for name, pair in pairs.items()}
    shared = frozenset(name for name, link in links.items() if link.shared)
    chains = tuple(_chained(flow, topology, times) for flow in flows if flow.plan.is_chain)
    telling = dict.fromkeys((*profiles, *(each.profile.name for each in contended.values())))
    told_by = (*times.sources, *(f"{PROFILE}{name}" for name in telling))
    of_links = between, shared, link_traces
    moving = visits, connecting_of(visits, fleet, times, file)
    learning = learning_of(topology, fleet, times, file)
    if learning:
        _refuse_contended(topology, contended, file)
    of_nodes = topology, fleet, flows, arrays, tables
    return Layout(*of_nodes, *of_links, contended, *moving, traces, chains, told_by, learning)


def _refuse_contended(topology: Topology, contended: Mapping[str, Contended], file: str | Path) -> None:
    """Raises TopologyError where devices that learn have not a core for each thread."""
    learning = {source for each in topology.federated for source in topology.workloads[each.workload].sources}
    why = "fewer cores than threads, one of which learns (give its profile more, or remove the federation)"
    problems = [f"{file}: $.nodes.{name}.profile: {why}" for name in contended if name in learning]
    if problems:
        raise TopologyError(problems)


def _cuts(topology: Topology, times: ServiceTimes, file: str | Path) -> dict[str, int | None]:
    """Where the models of chains are cut, by workload. Raises TopologyError where nothing tells."""
    found, problems = {}, []
    for name, plan in topology.workloads.items():
        try:
            found[name] = where_cut(name, topology, times, file) if plan.is_chain else None
        except TopologyError as error:
            problems += error.problems
    if problems:
        raise TopologyError(problems)
    return found


def where_cut(name: str, topology: Topology, times: ServiceTimes, file: str | Path) -> int | None:
    """Where the model of a chain is cut; None of two models. Raises TopologyError where nothing tells."""
    try:
        return place_for(name, topology, times)
    except EdgebenchError as error:
        raise TopologyError([one_line(f"{file}: $.workloads.{name}.split: {error}")]) from error


def _chained(flow: Flow, topology: Topology, times: ServiceTimes) -> Chained:
    return chained(flow.name, topology, times, flow.cut, output_size(flow, topology, times) // BYTES_A_VALUE)


def _flows(topology: Topology, fleet: Fleet, cuts: Mapping[str, int | None]) -> Iterator[Flow]:
    first = 0
    for number, (name, plan) in enumerate(topology.workloads.items()):
        pace, load = name, plan.load
        while isinstance(load, With):
            pace = load.workload
            load = topology.workloads[pace].load
        groups = [fleet.groups[source] for source in plan.sources]
        devices = [np.arange(group.first, group.first + group.count, dtype=np.int32) for group in groups]
        wheres = [_wheres(plan, group) for group in groups]
        at = np.concatenate(devices), np.concatenate(wheres)
        flow = Flow(name, number, plan, load, pace, first, *at, cuts[name])
        yield flow
        first += len(flow.devices)


def _wheres(plan: Workload, group: Group) -> NDArray[np.int8]:
    infer = plan.place.infer
    found = np.full(group.count, _WHERES[where_of(plan, group.name, group.name) or "edge"], np.int8)
    for name in infer if isinstance(infer, dict) else ():
        index = group.index(name)
        if index is not None:
            found[index] = _WHERES[where_of(plan, name, group.name) or "edge"]
    return found


class UnmeasuredBatch(EdgebenchError):
    """A batch came about whose service time is not known."""


def missing_service_time(layout: Layout, flow: int, group: int, size: int) -> UnmeasuredBatch:
    """What to say of a batch that came about, and whose service time is not known."""
    node = list(layout.fleet.groups.values())[group]
    known = [n for n in range(1, layout.arrays.service.shape[2]) if layout.arrays.service[flow, group, n] >= 0]
    return UnmeasuredBatch(
        f"{layout.flows[flow].name}: a batch of {size} came about at {node.name}, and for "
        f"{layout.flows[flow].model_at(node).told} only batches of {', '.join(map(str, known))} were measured "
        "(calibrate with a run that has fuller batches, or lower batch.max_batch)"
    )
