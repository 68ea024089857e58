"""What a two-moment network formula says of a topology: times by hop and whole, from rates and variances alone.

Each station is taken by itself, with the rate of what arrives there, and the squared coefficients of variation of its
gaps and of its service times. How many samples a model decides together it has to be told, and takes for always the
same: then whole batches arrive, and leave. So there are no bounded queues, and beyond its capacity a station takes for
ever. What a sample spends at one step has nothing to do with what it spends at others: their means and variances add
up, and percentiles are those of a gamma distribution with both, above the least that is possible. It is what
simulations are held against, not what they are made of.

Source: Whitt 1983, The Queueing Network Analyzer; of single stations see `two_moments`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from edgebench.clock import NS_PER_S
from edgebench.core.lanes import Way
from edgebench.core.links import PARETO_DEVIATION, PARETO_MEAN
from edgebench.results.chunks import HOPS
from edgebench.simulation import columns
from edgebench.simulation.columns import AT_CLOUD, AT_EDGE, CASCADE, CHAIN, ON_DEVICE, Ints, Lanes
from edgebench.simulation.costs import Flow
from edgebench.simulation.draws import JITTERS
from edgebench.simulation.layout import Layout
from edgebench.simulation.two_moments import Mixture, Moments, Service, Stream, merged, moments_of, station
from edgebench.topology.link_model import Jitter
from edgebench.topology.model import Fixed, Load, Poisson, Server, Tier, Trace

Source = tuple[int, int]
"""A workload on a device, by their numbers."""
Batches = Mapping[tuple[str, Tier], float]
"""How many samples of a workload are decided together on average, by the tier that does."""


_JITTERS: Mapping[Jitter, tuple[float, float]] = {
    "uniform": (-1.0, 1 / 3),
    "normal": (-math.inf, 1.0),
    "pareto": (-PARETO_MEAN / PARETO_DEVIATION, 1.0),
}
"""The least, and the variance, of a jitter of 1; see `core.links.jitter_draws`."""


class FormulaTimes(NamedTuple):
    """What is said of the samples of a workload: from being due to the decision, and by hop."""

    latency_ns: Mixture
    hops_ns: dict[str, Mixture]


def times_of(layout: Layout, batches: Batches | None = None) -> dict[str, FormulaTimes]:
    """Workload -> what a sample spends where.

    Of layouts with open loops alone. batches: those that came about; of others, samples are decided one by one.
    """
    network = _Network(layout, batches or {})
    network.solve()
    return {flow.name: network.said(flow) for flow in layout.flows}


class _Ways(NamedTuple):
    """What the samples of a source spend by hop, of those that the cloud decides, and of all others."""

    near: dict[str, Moments]
    far: dict[str, Moments]


class _Network:
    """The stations of a layout."""

    def __init__(self, layout: Layout, batches: Batches) -> None:
        fleet = layout.fleet
        self._layout = layout
        self._batches = batches
        self._where = {
            (flow.number, device): where
            for flow in layout.flows
            for device, where in zip(flow.devices.tolist(), flow.where.tolist(), strict=True)
        }
        self._ways = {source: _Ways({}, {}) for source in self._where}
        self._group = fleet.group_of("device").tolist()
        self._edge = fleet.edge_of.tolist()
        self._edge_group = fleet.group_of("edge").tolist()
        self._cloud = fleet.cloud.number

    def solve(self) -> None:
        """Go through the stations, with what leaves one arriving at the next."""
        streams = self._offered()
        for source in streams:
            self._add_to_both(source, "sense", self._cost(source, columns.TIMER))
        self._on_devices(_those(streams, self._at(ON_DEVICE)))
        arrived = self._across(_those(streams, self._at(AT_EDGE, CASCADE, CHAIN, AT_CLOUD)), "up", far=False)
        for source in arrived:
            self._add_to_both(source, "sense", self._cost(source, columns.CAPTURE))
        back, onward = self._at_edges(_those(arrived, self._at(AT_EDGE, CASCADE, CHAIN)))
        for source, stream in _those(arrived, self._at(AT_CLOUD)).items():
            self._add(source, "edge_forward", self._cost(source, columns.PASS_ON), far=True)
            onward[source] = stream
        for source, stream in self._at_cloud(onward).items():
            back[source] = merged([back[source], stream]) if source in back else stream
        self._across(back, "down", far=False)

    def said(self, flow: Flow) -> FormulaTimes:
        """Of a workload, once it is solved."""
        ways: list[tuple[dict[str, Moments], float]] = []
        for device in flow.devices.tolist():
            source = flow.number, device
            far = self._passed_on(source)
            ways += zip(self._ways[source], (1 - far, far), strict=True)
        ways = [(way, share) for way, share in ways if share]
        hops = dict.fromkeys((*HOPS, *(hop for way, _ in ways for hop in way)))
        return FormulaTimes(
            Mixture((Moments().then(*way.values()), share) for way, share in ways),
            {hop: Mixture((way.get(hop, Moments()), share) for way, share in ways) for hop in hops},
        )

    def _on_devices(self, streams: Mapping[Source, Stream]) -> None:
        waits, _ = _served(
            streams,
            lambda source: source,
            lambda source: self._inference(source, columns.INFER, columns.ANSWER, 1.0),
        )
        for source, wait in waits.items():
            begin = self._cost(source, columns.OWN_CAPTURE), self._cost(source, columns.WAKE)
            self._add(source, "queue", wait.then(*begin), far=False)
            self._add(source, "infer", self._infer(source, columns.INFER, 1.0), far=False)
            self._add(source, "downlink", self._cost(source, columns.HEAR), far=False)

    def _at_edges(self, streams: Mapping[Source, Stream]) -> tuple[dict[Source, Stream], dict[Source, Stream]]:
        """What goes back to devices, and what a cascade passes on, or the first stage of a chain hands on."""
        waits, decided = _served(
            streams,
            lambda source: (source[0], self._edge[source[1]]),
            lambda source: self._inference(source, columns.INFER, self._answer(source), self._batch(source, "edge")),
        )
        back, onward = {}, {}
        for source, stream in decided.items():
            share, batch = self._passed_on(source), self._batch(source, "edge")
            steps = self._steps(source, waits[source], columns.DECODE, columns.WAKE, columns.INFER, batch)
            if self._where[source] == CHAIN:
                for hop, took in steps.items():
                    self._add(source, f"head_{hop}", took, far=True)
                self._add(source, "edge_forward", self._turn(source, columns.PASS_ON, batch), far=True)
                onward[source] = stream
                continue
            for hop, took in steps.items():
                self._add(source, hop, took, far=False)
            self._add(source, "downlink", self._turn(source, columns.ANSWER, batch), far=False)
            self._add(source, "edge_forward", Moments().then(*steps.values()), far=True)
            back[source] = stream.share(1 - share)
            if share:
                onward[source] = stream.share(share)
        return back, onward

    def _at_cloud(self, streams: Mapping[Source, Stream]) -> dict[Source, Stream]:
        """What goes back from edges to devices."""
        waits, decided = _served(
            self._across(streams, "up", far=True),
            lambda source: source[0],
            lambda source: self._inference(
                source, columns.CLOUD_INFER, columns.CLOUD_ANSWER, self._batch(source, "cloud")
            ),
        )
        purposes = (columns.CLOUD_DECODE, columns.CLOUD_WAKE, columns.CLOUD_INFER)
        for source in decided:
            batch = self._batch(source, "cloud")
            for hop, took in self._steps(source, waits[source], *purposes, batch).items():
                self._add(source, hop, took, far=True)
            self._add(source, "backhaul_down", self._turn(source, columns.CLOUD_ANSWER, batch), far=True)
            self._add(source, "edge_return", self._cost(source, columns.HAND_BACK), far=True)
        return self._across(decided, "down", far=True)

    def _steps(
        self, source: Source, wait: Moments, decode: int, wake: int, infer: int, batch: float
    ) -> dict[str, Moments]:
        return {
            "decode": self._cost(source, decode),
            "queue": wait.then(self._cost(source, wake)),
            "infer": self._infer(source, infer, batch),
        }

    def _across(self, streams: Mapping[Source, Stream], way: Way, *, far: bool) -> dict[Source, Stream]:
        """What arrives at the other end of links; far: of those between edges and the cloud."""
        layout, n = self._layout, self._layout.fleet.count("device")
        lanes = layout.edge_lanes(way) if far else layout.device_lanes(way, np.zeros(n, np.int64))
        hop = ("backhaul_up" if way == "up" else "backhaul_down") if far else ("uplink" if way == "up" else "downlink")
        besides = {
            ("up", False): columns.SITE_UP,
            ("up", True): columns.BACKHAUL_UP,
            ("down", True): columns.BACKHAUL_DOWN,
            ("down", False): columns.SITE_DOWN,
        }[way, far]

        def lane(source: Source) -> int:
            return int(self._edge[source[1]] if far else source[1])

        def crossing_ns(source: Source) -> NDArray[np.float64]:
            kind = lanes.state[lane(source), columns.KIND]
            return self._sizes(source, way, far=far) * lanes.ns_per_byte[kind]

        def service(source: Source) -> Service:
            took = crossing_ns(source)
            return Service(float(took.mean()), float((took * took).mean()))

        waits, left = _served(streams, lambda source: int(lanes.state[lane(source), columns.PIPE]), service)
        for source, wait in waits.items():
            crossed = wait.then(moments_of(crossing_ns(source)), _latency(lanes, lane(source)))
            took = crossed.then(self._cost(source, besides))
            if not far:
                self._add(source, hop, took, far=False)
                if way == "down":
                    took = crossed.then(self._cost(source, columns.BROUGHT_DOWN))
            self._add(source, hop, took, far=True)
        return left

    def _sizes(self, source: Source, way: str, *, far: bool) -> Ints:
        """The bytes on a link of each sample, or decision, that was measured."""
        flows, (flow, device) = self._layout.arrays, source
        group = self._group[device]
        purpose = columns.SIZE_DRAW if way == "up" else columns.REPLY_DRAW
        if way == "down" and (far or self._where[source] in (AT_CLOUD, CHAIN)):
            purpose = columns.CLOUD_REPLY
        added = {
            ("up", False): flows.up_bytes[flow, group],
            ("down", False): flows.down_bytes[flow, group],
            ("up", True): flows.forward_bytes[flow],
            ("down", True): flows.answer_bytes[flow],
        }[way, far]
        output = int(flows.output_bytes[flow])
        if way == "up" and far and output >= 0:
            return np.array([output + added])
        return self._values(flows.cost[flow, purpose, group]) + added

    def _offered(self) -> dict[Source, Stream]:
        layout = self._layout
        found: dict[Source, Stream] = {}
        for flow in layout.flows:
            stream = _offered_by(flow.load, layout.traces.get(flow.paced_by, ()), layout.topology.duration_s)
            found |= {(flow.number, device): stream for device in flow.devices.tolist()}
        return found

    def _at(self, *wheres: int) -> Callable[[Source], bool]:
        return lambda source: self._where[source] in wheres

    def _answer(self, source: Source) -> int:
        """What an edge does in turn for each sample of a batch."""
        return columns.PASS_ON if self._where[source] == CHAIN else columns.ANSWER

    def _passed_on(self, source: Source) -> float:
        """What share of its samples the cloud decides."""
        where = self._where[source]
        return float(self._layout.arrays.share[source[0]]) if where == CASCADE else float(where in (AT_CLOUD, CHAIN))

    def _batch(self, source: Source, tier: Tier) -> float:
        """How many samples are decided together."""
        return self._batches.get((self._layout.flows[source[0]].name, tier), 1.0)

    def _inference(self, source: Source, infer: int, answer: int, batch: float) -> Service:
        """Of batches, each of which is answered before the next."""
        each = self._cost(source, answer).mean
        took = [(share, size, values + size * each) for share, size, values in self._by_size(source, infer, batch)]
        mean = sum(share * float(values.mean()) for share, _, values in took)
        square = sum(share * float((values**2).mean()) for share, _, values in took)
        gathers_ns = 0.0 if self._where[source] == ON_DEVICE else float(self._layout.arrays.max_wait[source[0]])
        return Service(mean, square, batch, gathers_ns)

    def _infer(self, source: Source, infer: int, batch: float) -> Moments:
        """What a sample spends in the model."""
        took = self._by_size(source, infer, batch)
        mean = sum(share * size * float(values.mean()) for share, size, values in took) / batch
        square = sum(share * size * float((values**2).mean()) for share, size, values in took) / batch
        return Moments(min(float(values.min()) for _, _, values in took), mean, max(0.0, square - mean**2))

    def _turn(self, source: Source, answer: int, batch: float) -> Moments:
        """How long a sample waits for the answers of those of its batch that come before it."""
        _, each, variance = self._cost(source, answer)
        before = (batch - 1) / 2
        return Moments(0.0, before * each, before * variance + each**2 * (batch**2 - 1) / 12)

    def _by_size(self, source: Source, infer: int, batch: float) -> list[tuple[float, int, NDArray[np.float64]]]:
        """Share, size and times of the two kinds of batches whose mean is this; where a kind was never measured, the
        times of the next one that was."""
        flows, group = self._layout.arrays, self._node(source, infer)
        both = flows.service[source[0], group], flows.at_once[source[0], group]
        known = {size: tables for size, tables in enumerate(np.stack(both, axis=1).tolist()) if tables[0] >= 0}
        low, beyond = int(batch), batch - int(batch)
        found = []
        for share, size in ((1 - beyond, low), (beyond, low + 1)):
            nearest = min(known, key=lambda each: abs(each - size))
            if share:
                values = [self._values(table).astype(float) for table in known[nearest]]
                found.append((share, size, np.concatenate(values)))
        return found

    def _cost(self, source: Source, purpose: int) -> Moments:
        """What a step takes; nothing where a sample's way has no such step."""
        table = self._layout.arrays.cost[source[0], purpose, self._node(source, purpose)]
        return moments_of(self._values(table)) if table >= 0 else Moments()

    def _values(self, table: int) -> Ints:
        tables = self._layout.tables
        return tables.values[tables.start[table] : tables.start[table] + tables.n[table]]

    def _node(self, source: Source, purpose: int) -> int:
        """The group of the node at which a step happens, as `costs` has it."""
        if purpose in (columns.CLOUD_DECODE, columns.CLOUD_WAKE, columns.CLOUD_INFER, columns.CLOUD_ANSWER):
            return self._cloud
        at_device = self._where[source] == ON_DEVICE
        if at_device or purpose in _OF_DEVICES:
            return int(self._group[source[1]])
        return int(self._edge_group[self._edge[source[1]]])

    def _add(self, source: Source, hop: str, took: Moments, *, far: bool) -> None:
        """far: of what the cloud decides, else of all other samples."""
        way = self._ways[source].far if far else self._ways[source].near
        way[hop] = took.then(way.get(hop, Moments()))

    def _add_to_both(self, source: Source, hop: str, took: Moments) -> None:
        for far in (False, True):
            self._add(source, hop, took, far=far)


_OF_DEVICES = (columns.TIMER, columns.CAPTURE, columns.SITE_UP, columns.SITE_DOWN, columns.BROUGHT_DOWN)


def _offered_by(load: Load, trace_s: tuple[float, ...], duration_s: float) -> Stream:
    """What one device sends."""
    match load:
        case Fixed(rate_hz=rate_hz):
            return Stream(rate_hz / NS_PER_S, 0.0)
        case Poisson(rate_hz=rate_hz) | Server(rate_hz=rate_hz):
            return Stream(rate_hz / NS_PER_S, 1.0)
        case Trace():
            gaps_s = np.diff([at_s for at_s in trace_s if at_s < duration_s], prepend=0.0)
            scv = float(gaps_s.var() / gaps_s.mean() ** 2) if gaps_s.any() else 0.0
            return Stream(len(gaps_s) / duration_s / NS_PER_S, scv)
        case _:
            raise AssertionError(f"{type(load).__name__} is no open load")


def _those(streams: Mapping[Source, Stream], which: Callable[[Source], bool]) -> dict[Source, Stream]:
    return {source: stream for source, stream in streams.items() if which(source)}


def _latency(lanes: Lanes, lane: int) -> Moments:
    """What a message takes across a link besides its bytes."""
    kind = lanes.kinds[lanes.state[lane, columns.KIND]]
    latency = float(kind[columns.LATENCY])
    first, delays = kind[columns.FIRST_DELAY], kind[columns.DELAYS]
    if delays:
        off = moments_of(lanes.off_ns[first : first + delays])
        return Moments(latency + off.least, latency + off.mean, off.variance)
    jitter = float(kind[columns.JITTER])
    if not jitter:
        return Moments(latency, latency)
    least, variance = _JITTERS[JITTERS[kind[columns.LAW]]]
    return Moments(max(0.0, latency + jitter * least), latency, jitter**2 * variance)


def _served(
    streams: Mapping[Source, Stream], station_of: Callable[[Source], Hashable], service_of: Callable[[Source], Service]
) -> tuple[dict[Source, Moments], dict[Source, Stream]]:
    """How long each waits for its turn at its station; and what leaves it."""
    waits, left = {}, {}
    stations: dict[Hashable, list[Source]] = {}
    for source in streams:
        stations.setdefault(station_of(source), []).append(source)
    for sources in stations.values():
        wait, out = station([streams[source] for source in sources], [service_of(source) for source in sources])
        for source, stream in zip(sources, out, strict=True):
            waits[source], left[source] = wait, stream
    return waits, left
