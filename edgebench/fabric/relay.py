"""The link emulation: one process through which every connection across a shaped link goes.

    python -m edgebench.fabric.relay

It reads lines of JSON on stdin: first a `RelaySpec`, then `RelayCommand`s; it answers each with a line on stdout
(`Ports`, then `Ports` or `Counters`), and ends on `stop`, on SIGTERM, or when stdin closes.
"""

from __future__ import annotations

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

from edgebench.clock import NS_PER_MS
from edgebench.core.links import Lane, Pipe, jitter_draws
from edgebench.errors import FabricError
from edgebench.fabric.conduit import RelayedConnection
from edgebench.fabric.descriptors import allow_descriptors
from edgebench.fabric.hiccups import HiccupMeter
from edgebench.fabric.listening import ON_LOOPBACK, FreePorts, Listening
from edgebench.fabric.reactor import READ, Reactor
from edgebench.fabric.records import Hiccup
from edgebench.topology.deployment import LinkPlan
from edgebench.topology.model import LinkChange


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
    probes; those begin on loopback."""

    seed: int
    links: tuple[LinkPlan, ...]
    routes: tuple[Route, ...]
    listening: Listening = ON_LOOPBACK


class RelayCommand(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A line on stdin. `open` adds routes while the relay runs; `down` cuts a link and refuses connections across it
    until `up`; `degrade` makes it another one until `up`; `stop` answers with the final counters and ends."""

    cmd: Literal["counters", "open", "down", "degrade", "up", "stop"]
    routes: tuple[Route, ...] = ()
    link: str = ""
    change: LinkChange = LinkChange()


class Ports(msgspec.Struct, frozen=True):
    """The ports that were chosen, by route."""

    ports: dict[str, int]


class LinkCounters(msgspec.Struct, frozen=True):
    """What has crossed a link: TCP payload bytes, connections, MQTT PUBLISH packets (None: some could not be seen)."""

    up_bytes: int
    down_bytes: int
    up_messages: int | None
    down_messages: int | None
    connections: int


class Counters(msgspec.Struct, frozen=True):
    """By link name; and the hiccups of the relay since it was asked before."""

    links: dict[str, LinkCounters]
    hiccups: list[Hiccup]


class _Link:
    def __init__(self, plan: LinkPlan, up: Lane, down: Lane) -> None:
        self.plan = plan
        self.up = up
        self.down = down
        self.connections = 0
        self.is_cut = False
        self.open: weakref.WeakSet[RelayedConnection] = weakref.WeakSet()

    def reshaped(self) -> None:
        """Let its connections know."""
        for connection in list(self.open):
            connection.reshaped()

    def counters(self) -> LinkCounters:
        opaque = self.up.opaque
        return LinkCounters(
            up_bytes=self.up.bytes,
            down_bytes=self.down.bytes,
            up_messages=None if opaque else self.up.messages,
            down_messages=None if opaque else self.down.messages,
            connections=self.connections,
        )


class _RelayProcess:
    def __init__(self, spec: RelaySpec) -> None:
        self.reactor = Reactor()
        self._hiccups = HiccupMeter()
        self._seed = spec.seed
        self._turns = itertools.count(1)
        self._links: dict[str, _Link] = {}
        self._free, self._free_for_probes = FreePorts(spec.listening), FreePorts(ON_LOOPBACK)
        pipes: dict[str, tuple[Pipe, Pipe]] = {}
        for plan in spec.links:
            up, down = pipes.setdefault(plan.pipe, (Pipe(plan.up_mbit_s), Pipe(plan.down_mbit_s)))
            if (up.rate_mbit_s, down.rate_mbit_s) != (plan.up_mbit_s, plan.down_mbit_s):
                raise FabricError(f"link {plan.name}: other rates than the rest of pipe {plan.pipe}")
            self._links[plan.name] = _Link(
                plan, Lane(up, *_shape_of(plan, spec.seed, "up")), Lane(down, *_shape_of(plan, spec.seed, "down"))
            )

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
        for connection in list(link.open):
            if not connection.closed:
                connection.abort()

    def degrade(self, name: str, change: LinkChange) -> None:
        """Make a link what a change says, and its pipe, for all that share it."""
        link = self._links[name]
        self._shape(link, link.plan.changed(change))
        if change.up_mbit_s is not None or change.down_mbit_s is not None:
            self._set_rates(link.plan.pipe, link.plan.changed(change))

    def mend(self, name: str) -> None:
        """Let connections pass a link, and make it, and its pipe, what it was planned to be."""
        link = self._links[name]
        link.is_cut = False
        self._shape(link, link.plan)
        self._set_rates(link.plan.pipe, link.plan)

    def run(self) -> None:
        """Serve until told to stop."""
        self._hiccups.start()
        try:
            self.reactor.run()
        finally:
            self._hiccups.end()

    def counters(self) -> Counters:
        return Counters({name: link.counters() for name, link in self._links.items()}, self._hiccups.take())

    def _shape(self, link: _Link, plan: LinkPlan) -> None:
        turn = str(next(self._turns))
        link.up.reshape(*_shape_of(plan, self._seed, "up", turn))
        link.down.reshape(*_shape_of(plan, self._seed, "down", turn))
        link.reshaped()

    def _set_rates(self, pipe: str, plan: LinkPlan) -> None:
        up, down = Pipe(plan.up_mbit_s), Pipe(plan.down_mbit_s)
        for link in self._links.values():
            if link.plan.pipe == pipe:
                link.up.leave_by(up)
                link.down.leave_by(down)
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
        )
        for link in links:
            link.open.add(connection)


def _shape_of(plan: LinkPlan, seed: int, direction: str, *turn: str) -> tuple[int, int, Iterator[float]]:
    """Latency and jitter of a lane in ns, and the draws of the latter."""
    draws = jitter_draws(plan.jitter, seed, plan.name, direction, *turn)
    return round(plan.latency_ms * NS_PER_MS), round(plan.jitter_ms * NS_PER_MS), draws


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
    relay.reactor.watch(stdin, READ, partial(_obey, relay, stdin))
    _answer(relay.open(spec.routes))
    relay.run()


if __name__ == "__main__":
    main()
