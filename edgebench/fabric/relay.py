"""The link emulation: one process through which every connection across a shaped link goes.

    python -m edgebench.fabric.relay

It reads lines of JSON on stdin: first a `RelaySpec`, then `RelayCommand`s; it answers each with a line on stdout
(`Ports`, then `Ports` or `Counters`), and ends on `stop`, on SIGTERM, or when stdin closes.
"""

from __future__ import annotations

import gc
import itertools
import os
import signal
import socket
import sys
import weakref
from collections.abc import Iterator
from functools import partial
from typing import Literal

import msgspec

from edgebench.clock import now_ns
from edgebench.core.lanes import WAYS, lane_of, pipes_of, rate_of, reshape
from edgebench.core.links import Lane, Losses, Outages, Pipe, TracePipe, begins
from edgebench.fabric.conduit import RelayedConnection
from edgebench.fabric.descriptors import allow_descriptors
from edgebench.fabric.hiccups import HiccupMeter
from edgebench.fabric.listening import ON_LOOPBACK, FreePorts, Listening
from edgebench.fabric.reactor import READ, Reactor
from edgebench.fabric.records import Hiccup
from edgebench.topology.deployment import LinkPlan
from edgebench.topology.link_model import LinkChange
from edgebench.topology.link_traces import NO_TRACES, LinkTraces


class Route(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A listening port, whose connections cross the links `via`, from the child upwards, to `host:port`.

    host: an IP address. protocol: `mqtt` counts messages; `http` has none; `opaque` (TLS) hides them, so that
    the links it crosses have no message count. probe: what crosses is not counted at all.
    """

    name: str
    via: tuple[str, ...]
    host: str
    port: int
    protocol: Literal["mqtt", "http", "opaque"]
    probe: bool = False


class RelaySpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What to emulate. All links that name one pipe have the same rates. listening: where routes begin that are no
    probes; those begin on loopback. traces: that the links name."""

    seed: int
    links: tuple[LinkPlan, ...]
    routes: tuple[Route, ...]
    listening: Listening = ON_LOOPBACK
    traces: LinkTraces = NO_TRACES


class RelayCommand(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A line on stdin. `open` adds routes while the relay runs; `down` cuts a link and refuses connections across it
    until `up`; `degrade` makes it another one until `up`; `begin` says when traces of rates, and outages, do; `stop`
    answers with the final counters and ends."""

    cmd: Literal["counters", "open", "down", "degrade", "up", "begin", "stop"]
    routes: tuple[Route, ...] = ()
    link: str = ""
    change: LinkChange = LinkChange()
    at_ns: int = 0


class Ports(msgspec.Struct, frozen=True):
    """The ports that were chosen, by route."""

    ports: dict[str, int]


class LinkCounters(msgspec.Struct, frozen=True):
    """What has crossed a link: TCP payload bytes, connections, MQTT PUBLISH packets (None: some could not be seen); and
    where packets may get lost, how many came by outside of outages, and how many of them were lost."""

    up_bytes: int
    down_bytes: int
    up_messages: int | None
    down_messages: int | None
    connections: int
    up_packets: int = 0
    up_lost: int = 0
    down_packets: int = 0
    down_lost: int = 0


class OutageStep(msgspec.Struct, frozen=True):
    """A link fell `silent`, had its connections broken (`reset`), or carries `again`."""

    link: str
    step: Literal["silent", "reset", "again"]
    at_ns: int


class Counters(msgspec.Struct, frozen=True):
    """By link name; and the hiccups of the relay, and the outages of links, since it was asked before."""

    links: dict[str, LinkCounters]
    hiccups: list[Hiccup]
    outages: list[OutageStep]


class _Link:
    def __init__(self, plan: LinkPlan, up: Lane, down: Lane) -> None:
        self.plan = plan
        self.shape = plan
        """What it is now, but for its rates."""
        self.up = up
        self.down = down
        self.connections = 0
        self.is_cut = False
        self.open: weakref.WeakSet[RelayedConnection] = weakref.WeakSet()

    @property
    def lanes(self) -> tuple[Lane, Lane]:
        return self.up, self.down

    @property
    def loses(self) -> bool:
        """Whether packets may get lost."""
        return self.up.losses is not None

    def reshaped(self) -> None:
        """Let its connections know."""
        for connection in list(self.open):
            connection.reshaped(loses=self.loses)

    def reset(self) -> None:
        """Break its connections."""
        for connection in list(self.open):
            if not connection.closed:
                connection.abort()

    def counters(self) -> LinkCounters:
        opaque = self.up.opaque
        up, down = self.up.losses or Losses(iter(())), self.down.losses or Losses(iter(()))
        return LinkCounters(
            up_bytes=self.up.bytes,
            down_bytes=self.down.bytes,
            up_messages=None if opaque else self.up.messages,
            down_messages=None if opaque else self.down.messages,
            connections=self.connections,
            up_packets=up.packets,
            up_lost=up.lost,
            down_packets=down.packets,
            down_lost=down.lost,
        )


class _RelayProcess:
    def __init__(self, spec: RelaySpec) -> None:
        self.reactor = Reactor(punctual=True)
        self._hiccups = HiccupMeter()
        self._seed = spec.seed
        self._traces = spec.traces
        self._began_ns: int | None = None
        self._outages: list[OutageStep] = []
        self._turns = itertools.count(1)
        self._links: dict[str, _Link] = {}
        self._degraded: dict[str, dict[str, LinkPlan]] = {}
        """Pipe -> link -> what its rates are to be; the last one holds."""
        self._free, self._free_for_probes = FreePorts(spec.listening), FreePorts(ON_LOOPBACK)
        pipes: dict[str, tuple[Pipe, Pipe]] = {}
        for plan in spec.links:
            if plan.pipe not in pipes:
                pipes[plan.pipe] = pipes_of(plan, spec.traces)
            up, down = (
                lane_of(plan, way, pipe, spec.traces, spec.seed)
                for way, pipe in zip(WAYS, pipes[plan.pipe], strict=True)
            )
            self._links[plan.name] = _Link(plan, up, down)

    def open(self, routes: tuple[Route, ...]) -> Ports:
        """Listen for each route."""
        ports = {}
        for route in routes:
            links = tuple(self._links[name] for name in route.via)
            listener = (self._free_for_probes if route.probe else self._free).listen()
            listener.setblocking(False)
            for link in links:
                link.up.opaque |= route.protocol == "opaque" and not route.probe
            self.reactor.watch(listener, READ, partial(self._accept, listener, route, links))
            ports[route.name] = listener.getsockname()[1]
        return Ports(ports)

    def cut(self, name: str) -> None:
        """Break all connections across a link, and let no new ones pass."""
        link = self._links[name]
        link.is_cut = True
        link.reset()

    def degrade(self, name: str, change: LinkChange) -> None:
        """Make a link what a change says, and its pipe, for all that share it."""
        link = self._links[name]
        self._shape(link, link.plan.changed(change))
        if change.up_mbit_s is not None or change.down_mbit_s is not None:
            degraded = self._degraded.setdefault(link.plan.pipe, {})
            before = _held(degraded, link.plan)
            degraded.pop(name, None)
            degraded[name] = link.plan.changed(change)
            self._set_rates(before, degraded[name])

    def mend(self, name: str) -> None:
        """Let connections pass a link, and make it what it was planned to be; its pipe, too, unless another link that
        shares it is degraded."""
        link = self._links[name]
        link.is_cut = False
        self._shape(link, link.plan)
        degraded = self._degraded.get(link.plan.pipe, {})
        before = _held(degraded, link.plan)
        if degraded.pop(name, None) is not None:
            self._set_rates(before, _held(degraded, link.plan))

    def begin(self, at_ns: int) -> None:
        """The time of traces of rates, and of outages, is 0 then."""
        self._began_ns = at_ns
        for link in self._links.values():
            for lane in link.lanes:
                if isinstance(lane.pipe, TracePipe):
                    lane.pipe.begin(at_ns)
                if lane.losses is not None:
                    lane.losses.outages = Outages(link.plan.outages, at_ns)
            if link.plan.outages:
                self._await_outage(link, begins(link.plan.outages, at_ns))

    def run(self) -> None:
        """Serve until told to stop."""
        self._hiccups.start()
        try:
            self.reactor.run()
        finally:
            self._hiccups.end()

    def counters(self) -> Counters:
        outages, self._outages = self._outages, []
        return Counters({name: link.counters() for name, link in self._links.items()}, self._hiccups.take(), outages)

    def _shape(self, link: _Link, plan: LinkPlan) -> None:
        if _but_rates(plan) == _but_rates(link.shape):
            return  # its delays go on in their order
        link.shape = plan
        turn = next(self._turns)
        for way, lane in zip(WAYS, link.lanes, strict=True):
            reshape(lane, plan, way, self._traces, self._seed, turn)
        link.reshaped()

    def _await_outage(self, link: _Link, coming: Iterator[tuple[int, int, bool]]) -> None:
        outage = next(coming, None)
        if outage is not None:
            self.reactor.call_at(outage[0], partial(self._break, link, outage, coming))

    def _break(self, link: _Link, outage: tuple[int, int, bool], coming: Iterator[tuple[int, int, bool]]) -> None:
        due_ns, for_ns, reset = outage
        at_ns = now_ns()
        if reset:
            link.reset()
        self._outages.append(OutageStep(link.plan.name, "silent" if for_ns else "reset", at_ns))
        if for_ns:
            self.reactor.call_at(due_ns + for_ns, partial(self._mend, link))
        self._await_outage(link, coming)

    def _mend(self, link: _Link) -> None:
        self._outages.append(OutageStep(link.plan.name, "again", now_ns()))

    def _set_rates(self, before: LinkPlan, plan: LinkPlan) -> None:
        """Of all links that share their pipe; a way that stays as it is keeps what it knows of what has left."""
        pipes = pipes_of(plan, self._traces, self._began_ns)
        others = [rate_of(plan, way) != rate_of(before, way) for way in WAYS]
        for link in self._links.values():
            if link.plan.pipe == plan.pipe:
                for lane, pipe, other in zip(link.lanes, pipes, others, strict=True):
                    if other:
                        lane.leave_by(pipe)
                link.reshaped()

    def _accept(self, listener: socket.socket, route: Route, links: tuple[_Link, ...], _events: int) -> None:
        try:
            client, _ = listener.accept()
        except (BlockingIOError, ConnectionError):
            return  # it went away between the event and now
        if any(link.is_cut for link in links):
            client.close()
            return
        if not route.probe:
            for link in links:
                link.connections += 1
        connection = RelayedConnection(
            self.reactor,
            client,
            (route.host, route.port),
            up=tuple(link.up for link in links),
            down=tuple(link.down for link in reversed(links)),
            counted=not route.probe,
            mqtt=route.protocol == "mqtt",
            loses=not route.probe and any(link.loses for link in links),
        )
        for link in links:
            link.open.add(connection)


def _held(degraded: dict[str, LinkPlan], plan: LinkPlan) -> LinkPlan:
    """The plan that says a pipe's rates. degraded: those of its links that are; the last one holds. plan: of any."""
    return next(reversed(degraded.values()), plan)


def _but_rates(plan: LinkPlan) -> LinkPlan:
    return msgspec.structs.replace(plan, up_mbit_s=None, down_mbit_s=None, up_trace=None, down_trace=None)


class _Stdin:
    """Lines from stdin, without a thread."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def fileno(self) -> int:
        return sys.stdin.fileno()

    def lines(self) -> list[bytes] | None:
        """What is complete by now; None at the end of stdin."""
        data = os.read(self.fileno(), 1 << 20)
        if not data:
            return None
        *whole, rest = bytes(self._buffer + data).split(b"\n")
        self._buffer[:] = rest
        return whole


def _answer(message: Ports | Counters) -> None:
    sys.stdout.buffer.write(msgspec.json.encode(message) + b"\n")
    sys.stdout.buffer.flush()


def _obey(relay: _RelayProcess, stdin: _Stdin, _events: int) -> None:
    lines = stdin.lines()
    if lines is None:
        relay.reactor.stop()
        return
    for line in lines:
        command = msgspec.json.decode(line, type=RelayCommand)
        if command.cmd == "open":
            _answer(relay.open(command.routes))
        else:
            match command.cmd:
                case "down":
                    relay.cut(command.link)
                case "degrade":
                    relay.degrade(command.link, command.change)
                case "up":
                    relay.mend(command.link)
                case "begin":
                    relay.begin(command.at_ns)
            _answer(relay.counters())
        if command.cmd == "stop":
            relay.reactor.stop()


def main() -> None:
    """Serve until told to stop."""
    allow_descriptors()
    stdin = _Stdin()
    first: list[bytes] | None = []
    while first == []:
        first = stdin.lines()
    if first is None:
        return
    spec = msgspec.json.decode(first[0], type=RelaySpec)
    relay = _RelayProcess(spec)
    signal.signal(signal.SIGTERM, lambda _number, _frame: relay.reactor.stop())
    # What is there by now stays. A collection that looked through all of it would make what is due meanwhile ms late.
    gc.collect()
    gc.freeze()
    relay.reactor.watch(stdin, READ, partial(_obey, relay, stdin))
    _answer(relay.open(spec.routes))
    relay.run()


if __name__ == "__main__":
    main()
