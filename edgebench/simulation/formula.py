"""What a two-moment network formula says of a topology: mean times by hop, from rates and variances alone.

Each station is taken by itself, with the rate of what arrives there, and the squared coefficients of variation of its
gaps and of its service times. How many samples a model decides together it has to be told, and takes for always the
same: then whole batches arrive, and leave. So there are no bounded queues and nothing but means, and beyond its
capacity a station takes for ever. It is what simulations are held against, not what they are made of.

Source: Whitt 1983, The Queueing Network Analyzer.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from edgebench.clock import NS_PER_S
from edgebench.core.lanes import Way
from edgebench.results.chunks import HEAD_HOPS, HOPS
from edgebench.simulation import columns
from edgebench.simulation.columns import AT_CLOUD, AT_EDGE, CASCADE, CHAIN, ON_DEVICE, Ints
from edgebench.simulation.layout import Layout
from edgebench.topology.model import Fixed, Load, Poisson, Server, Tier, Trace

Source = tuple[int, int]
"""A workload on a device, by their numbers."""
Batches = Mapping[tuple[str, Tier], float]
"""How many samples of a workload are decided together on average, by the tier that does."""


class Stream(NamedTuple):
    """What arrives somewhere: how often, per ns, and the squared coefficient of variation of the gaps."""

    rate: float
    scv: float

    def share(self, share: float) -> Stream:
        """Such a share of it, drawn by chance."""
        return Stream(self.rate * share, share * self.scv + 1 - share)


class Service(NamedTuple):
    """What each batch of arrivals takes, ns, and the square of it, both on average; how many arrivals that is, and how
    long the first of them may wait for the others, ns."""

    mean: float
    square: float
    batch: float = 1.0
    gathers_ns: float = 0.0


def mean_hops_ns(layout: Layout, batches: Batches | None = None) -> dict[str, dict[str, float]]:
    """Workload -> hop -> what a sample spends there on average, ns; infinite beyond the capacity of a station.

    Of layouts with open loops alone. batches: those that came about; of others, samples are decided one by one.
    """
    network = _Network(layout, batches or {})
    network.solve()
    found = {}
    for flow in layout.flows:
        mine = [network.hops[flow.number, device] for device in flow.devices.tolist()]
        found[flow.name] = {hop: math.fsum(each[hop] for each in mine) / len(mine) for hop in mine[0]}
    return found


class _Network:
    """The stations of a layout. hops: by source, what was added up so far."""

    def __init__(self, layout: Layout, batches: Batches) -> None:
        fleet = layout.fleet
        self._layout = layout
        self._batches = batches
        self._where = {
            (flow.number, device): where
            for flow in layout.flows
            for device, where in zip(flow.devices.tolist(), flow.where.tolist(), strict=True)
        }
        self.hops: dict[Source, dict[str, float]] = {
            source: dict.fromkeys((*HOPS, *HEAD_HOPS) if where == CHAIN else HOPS, 0.0)
            for source, where in self._where.items()
        }
        self._group = fleet.group_of("device").tolist()
        self._edge = fleet.edge_of.tolist()
        self._edge_group = fleet.group_of("edge").tolist()
        self._cloud = fleet.cloud.number

    def solve(self) -> None:
        """Go through the stations, with what leaves one arriving at the next."""
        streams = self._offered()
        for source in streams:
            self._add(source, "sense", self._cost(source, columns.TIMER))
        self._on_devices(_those(streams, self._at(ON_DEVICE)))
        arrived = self._across(_those(streams, self._at(AT_EDGE, CASCADE, CHAIN, AT_CLOUD)), "up", far=False)
        for source in arrived:
            self._add(source, "sense", self._cost(source, columns.CAPTURE))
        back, onward = self._at_edges(_those(arrived, self._at(AT_EDGE, CASCADE, CHAIN)))
        for source, stream in _those(arrived, self._at(AT_CLOUD)).items():
            self._add(source, "edge_forward", self._cost(source, columns.PASS_ON))
            onward[source] = stream
        for source, stream in self._at_cloud(onward).items():
            back[source] = _merged([back[source], stream]) if source in back else stream
        self._across(back, "down", far=False)

    def _on_devices(self, streams: Mapping[Source, Stream]) -> None:
        waits, _ = _served(
            streams,
            lambda source: source,
            lambda source: self._inference(source, columns.INFER, columns.ANSWER, 1.0),
        )
        for source, wait in waits.items():
            begin = self._cost(source, columns.OWN_CAPTURE) + self._cost(source, columns.WAKE)
            self._add(source, "queue", wait + begin)
            self._add(source, "infer", self._infer_ns(source, columns.INFER, 1.0))
            self._add(source, "downlink", self._cost(source, columns.HEAR))

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
                    self._add(source, f"head_{hop}", took)
                self._add(source, "edge_forward", self._turn_ns(source, columns.PASS_ON, batch))
                onward[source] = stream
                continue
            for hop, took in steps.items():
                self._add(source, hop, (1 - share) * took)
            self._add(source, "downlink", (1 - share) * self._turn_ns(source, columns.ANSWER, batch))
            self._add(source, "edge_forward", share * sum(steps.values()) if share else 0.0)
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
                self._add(source, hop, self._passed_on(source) * took)
            turn_ns = self._turn_ns(source, columns.CLOUD_ANSWER, batch)
            self._add(source, "backhaul_down", self._passed_on(source) * turn_ns)
            self._add(source, "edge_return", self._passed_on(source) * self._cost(source, columns.HAND_BACK))
        return self._across(decided, "down", far=True)

    def _steps(self, source: Source, wait: float, decode: int, wake: int, infer: int, batch: float) -> dict[str, float]:
        return {
            "decode": self._cost(source, decode),
            "queue": wait + self._cost(source, wake),
            "infer": self._infer_ns(source, infer, batch),
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
        brought = way == "down" and not far

        def lane(source: Source) -> int:
            return int(self._edge[source[1]] if far else source[1])

        def service(source: Source) -> Service:
            size = self._sizes(source, way, far=far) * lanes.ns_per_byte[lanes.state[lane(source), columns.KIND]]
            return Service(float(size.mean()), float((size * size).mean()))

        waits, left = _served(streams, lambda source: int(lanes.state[lane(source), columns.PIPE]), service)
        for source, wait in waits.items():
            kind = lanes.kinds[lanes.state[lane(source), columns.KIND]]
            first, delays = kind[columns.FIRST_DELAY], kind[columns.DELAYS]
            latency = float(kind[columns.LATENCY] + (lanes.off_ns[first : first + delays].mean() if delays else 0))
            share = self._passed_on(source) if brought else 0.0
            steps = (besides, 1.0 - share), (columns.BROUGHT_DOWN, share)
            step = math.fsum(part * self._cost(source, purpose) for purpose, part in steps if part)
            took = wait + service(source).mean + latency + step
            self._add(source, hop, (self._passed_on(source) if far else 1.0) * took)
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
        each = self._cost(source, answer)
        took = [(share, size, values + size * each) for share, size, values in self._by_size(source, infer, batch)]
        mean = sum(share * float(values.mean()) for share, _, values in took)
        square = sum(share * float((values**2).mean()) for share, _, values in took)
        gathers_ns = 0.0 if self._where[source] == ON_DEVICE else float(self._layout.arrays.max_wait[source[0]])
        return Service(mean, square, batch, gathers_ns)

    def _infer_ns(self, source: Source, infer: int, batch: float) -> float:
        """What a sample spends in the model."""
        took = self._by_size(source, infer, batch)
        return sum(share * size * float(values.mean()) for share, size, values in took) / batch

    def _turn_ns(self, source: Source, answer: int, batch: float) -> float:
        """How long a sample waits for the answers of those of its batch that come before it."""
        return (batch - 1) / 2 * self._cost(source, answer)

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

    def _cost(self, source: Source, purpose: int) -> float:
        """What a step takes on average; 0 where a sample's way has no such step."""
        table = self._layout.arrays.cost[source[0], purpose, self._node(source, purpose)]
        return float(self._values(table).mean()) if table >= 0 else 0.0

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

    def _add(self, source: Source, hop: str, took_ns: float) -> None:
        self.hops[source][hop] += took_ns


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


def _merged(streams: Sequence[Stream]) -> Stream:
    """Several as one, by the asymptotic method."""
    rate = sum(stream.rate for stream in streams)
    return Stream(rate, sum(stream.rate * stream.scv for stream in streams) / rate if rate else 0.0)


def _served(
    streams: Mapping[Source, Stream], station_of: Callable[[Source], Hashable], service_of: Callable[[Source], Service]
) -> tuple[dict[Source, float], dict[Source, Stream]]:
    """How long each waits on average for its turn at its station, ns; and what leaves it."""
    waits, left = {}, {}
    stations: dict[Hashable, list[Source]] = {}
    for source in streams:
        stations.setdefault(station_of(source), []).append(source)
    for sources in stations.values():
        wait, out = _station([streams[source] for source in sources], [service_of(source) for source in sources])
        for source, stream in zip(sources, out, strict=True):
            waits[source], left[source] = wait, stream
    return waits, left


def _station(arrivals: Sequence[Stream], services: Sequence[Service]) -> tuple[float, list[Stream]]:
    """A first-in-first-out station: the mean wait, and what leaves it. Source: Whitt 1983, eqs. 26-33, 38, 44, 45."""
    rate = sum(stream.rate for stream in arrivals)
    if not rate:
        return 0.0, list(arrivals)
    parts = [stream.rate / rate for stream in arrivals]
    mean = sum(part * service.mean for part, service in zip(parts, services, strict=True))
    square = sum(part * service.square for part, service in zip(parts, services, strict=True))
    batch = sum(part * service.batch for part, service in zip(parts, services, strict=True))
    # On average, with arrivals by chance: that many half gaps of those that come after one until the batch is full.
    gathering = min(max(service.gathers_ns for service in services), batch / rate) * (batch + 1) / (2 * batch)
    busy, served_scv = rate / batch * mean, max(0.0, square / mean**2 - 1) if mean else 0.0
    if busy >= 1:
        return math.inf, [_one_by_one(Stream(1 / mean, served_scv), batch).share(part) for part in parts]
    alike = 1 / sum(part * part for part in parts)
    weight = 1 / (1 + 4 * (1 - busy) ** 2 * (alike - 1))
    scv = (weight * _merged(arrivals).scv + 1 - weight) / batch
    spread = scv + served_scv
    wait = mean * busy * spread / (2 * (1 - busy))
    if scv < 1 and busy and spread:
        wait *= math.exp(-2 * (1 - busy) * (1 - scv) ** 2 / (3 * busy * spread))
    left = Stream(rate / batch, busy**2 * served_scv + (1 - busy**2) * scv)
    return wait + gathering, [_one_by_one(left, batch).share(part) for part in parts]


def _one_by_one(batches: Stream, size: float) -> Stream:
    """The samples of batches that leave as one."""
    return Stream(batches.rate * size, size * batches.scv + size - 1)
