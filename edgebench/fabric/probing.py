"""Measuring the emulated links before a run: real bytes, through the real relay, stamped by one clock.

A machine that stands still for some ms measures itself and not the link. A monitor notices that; what was disturbed
is left out and measured again, a few times at most.
"""

from __future__ import annotations

import socket
import statistics
import struct
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack

import msgspec

from edgebench.clock import NS_PER_MS, NS_PER_S, now_ns
from edgebench.core.links import WINDOW_NS, deviation_at, mbit_s
from edgebench.errors import FabricError
from edgebench.fabric.links import Relay
from edgebench.fabric.reactor import READ, WRITE, Reactor
from edgebench.fabric.relay import Route
from edgebench.topology.deployment import LinkPlan
from edgebench.topology.wording import listed

_PER_SHAPE = 2
_STAMP = struct.Struct("<q")
_STAMPS = 100
_MIN_STAMPS = 10
_STAMPING_NS = NS_PER_S
_SPACING_NS = 5 * NS_PER_MS
_RATE_S = 0.3
_LEAST_READS = 8
"""In which what is sent to measure a rate comes: of what is read at once, after this process stood still, nothing tells
how long it took."""
_MIN_RATE_BYTES = _LEAST_READS * 512
_MAX_RATE_BYTES = 32 * 1024 * 1024
_ENOUGH_SLOPES = 5
_TRIES = 3
_WAVE_MBIT_S = 300.0
_BEAT_NS = NS_PER_MS
_CATCH_UP_NS = 5 * NS_PER_MS
_PATIENCE_S = 30.0
_RECEIVE_BYTES = 64 * 1024


Span = tuple[int, int]


class LinkMeasured(msgspec.Struct, frozen=True):
    """What a link does, but for losing packets.

    Delays: p50, p90 and p99 of the one-way times of a few bytes. Jitter: that of the link's distribution with the
    delays' interquartile range. Rates: of TCP payload; None where the link is unlimited, and none was measured.
    steady: False where the machine was too busy for undisturbed figures, so that these say more of it than of the link.
    """

    up_delays_ms: tuple[float, float, float]
    down_delays_ms: tuple[float, float, float]
    up_jitter_ms: float
    down_jitter_ms: float
    up_mbit_s: float | None
    down_mbit_s: float | None
    steady: bool


def probe(relay: Relay) -> dict[str, LinkMeasured]:
    """Measure the relay's links before anything else crosses them: two of each shape (see `sample`).

    Blocks for some 1.5 s, or 5 s on a busy machine. What it sends is in no counter.
    Raises FabricError when the bytes do not arrive.
    """
    reactor = Reactor()
    stall_monitor = StallMonitor(reactor)
    probes: list[_Probe] = []
    try:
        probes += _connect(relay, reactor)
        _until(reactor, "the first byte", probes, lambda end: end.received >= 1)
        for _ in range(_TRIES):
            for number, each in enumerate(probes):
                each.stamp_both(now_ns() + number * _SPACING_NS // len(probes))
            _until(reactor, "delay probes", probes, lambda end: end.stamps_awaited == 0)
            if all(each.delays_are_steady(stall_monitor.stalls) for each in probes):
                break
        for wave in waves([each.plan for each in probes]):
            flooding = [each for each in probes if each.plan in wave]
            for _ in range(_TRIES):
                for each in flooding:
                    each.flood_both()
                _until(reactor, "rate probes", flooding, lambda end: end.flood_awaited <= 0)
                flooding = [each for each in flooding if not each.rates_are_steady(stall_monitor.stalls)]
                if not flooding:
                    break
        return {each.plan.name: each.measured(stall_monitor.stalls) for each in probes}
    finally:
        for each in probes:
            each.close()
        reactor.close()


def sample(links: Sequence[LinkPlan]) -> tuple[LinkPlan, ...]:
    """The links to measure: two of each shape (latency, jitter, rates), of two pipes where there are two."""
    chosen: dict[tuple[object, ...], list[LinkPlan]] = {}
    for link in links:
        delays = (link.latency_ms, link.jitter_ms, link.jitter, link.delay_trace)
        rates = (link.up_mbit_s, link.down_mbit_s, link.up_trace, link.down_trace)
        same = chosen.setdefault(delays + rates, [])
        if len(same) < _PER_SHAPE:
            same.append(link)
        elif link.pipe not in {other.pipe for other in same} and same[0].pipe == same[-1].pipe:
            same[-1] = link
    return tuple(link for same in chosen.values() for link in same)


def waves(links: Sequence[LinkPlan]) -> list[list[LinkPlan]]:
    """The links in groups whose rates can be measured at once: no two of a pipe, and no more than a machine can do."""
    groups: list[list[LinkPlan]] = []
    for link in links:
        if not link.up_mbit_s and not link.down_mbit_s:
            continue
        for group in groups:
            if link.pipe not in {other.pipe for other in group} and sum(map(_load, [*group, link])) <= _WAVE_MBIT_S:
                group.append(link)
                break
        else:
            groups.append([link])
    return groups


class StallMonitor:
    """Notes when the process did not run on time: `stalls` holds (due, ran) in ns, each more than 1 ms."""

    def __init__(self, reactor: Reactor) -> None:
        self.stalls: list[Span] = []
        self._reactor = reactor
        self._beat(now_ns())

    def _beat(self, due_ns: int) -> None:
        at_ns = now_ns()
        if at_ns - due_ns > _BEAT_NS:
            self.stalls.append((due_ns, at_ns))
        next_ns = max(due_ns + _BEAT_NS, at_ns)
        self._reactor.call_at(next_ns, lambda: self._beat(next_ns))


def undisturbed(flights: Sequence[Span], stalls: Sequence[Span]) -> list[Span]:
    """The flights (sent, received) during which nothing stood still."""
    return [
        (sent_ns, received_ns)
        for sent_ns, received_ns in flights
        if not any(from_ns < received_ns and sent_ns < to_ns for from_ns, to_ns in stalls)
    ]


def delays_and_spread(flights: Sequence[Span], own_ns: float) -> tuple[tuple[float, float, float], float]:
    """Delays (see LinkMeasured), less the stamp's own transmission time, and their interquartile range, all in ms."""
    delays_ns = [received_ns - sent_ns for sent_ns, received_ns in flights]
    parts = statistics.quantiles(delays_ns, n=100, method="inclusive")
    p50, p90, p99 = ((parts[place] - own_ns) / NS_PER_MS for place in (49, 89, 98))
    return (p50, p90, p99), (parts[74] - parts[24]) / NS_PER_MS


def slopes_mbit_s(points: Sequence[Span], stalls: Sequence[Span]) -> list[float]:
    """Rates between points half the time apart, of (time in ns, bytes so far) after each read.

    The first read only sets the start. Left out: points at which a backlog from a stall may still be coming in, and
    pairs around a stall so long that the emulated link may have run empty.
    """

    def catching_up(at_ns: int) -> bool:
        return any(from_ns < at_ns < to_ns + (to_ns - from_ns) + _CATCH_UP_NS for from_ns, to_ns in stalls)

    def ran_empty(start_ns: int, end_ns: int) -> bool:
        return any(
            to_ns - from_ns > WINDOW_NS // 2 and from_ns < end_ns and start_ns < to_ns for from_ns, to_ns in stalls
        )

    half = max(1, len(points) // 2)
    good = {at_ns for at_ns, _ in points if not catching_up(at_ns)}
    return [
        mbit_s(late_bytes - early_bytes, late_ns - early_ns)
        for (early_ns, early_bytes), (late_ns, late_bytes) in zip(points, points[half:], strict=False)
        if early_ns in good and late_ns in good and not ran_empty(early_ns, late_ns)
    ]


def _load(link: LinkPlan) -> float:
    return (link.up_mbit_s or 0.0) + (link.down_mbit_s or 0.0)


class _End:
    """One end of a probing connection: sends what it is told to, and notes what arrives and when."""

    def __init__(self, reactor: Reactor, name: str, sock: socket.socket) -> None:
        self.name = name
        self.sock = sock
        self.received = 0
        self.stamps_awaited = 0
        self.flood_awaited = 0
        self._most_bytes = _RECEIVE_BYTES
        self.flights: list[Span] = []
        self.points: list[Span] = []
        self._reactor = reactor
        self._buffer = bytearray()
        self._to_flood = 0
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        reactor.watch(sock, READ, self._ready)
        sock.send(b"h")

    def stamp(self) -> None:
        self.sock.send(_STAMP.pack(now_ns()))

    def await_flood(self, size_bytes: int) -> None:
        self.points = []
        self.flood_awaited = size_bytes
        self._most_bytes = min(_RECEIVE_BYTES, size_bytes // _LEAST_READS)

    def flood(self, size_bytes: int) -> None:
        self._to_flood = size_bytes
        self._reactor.watch(self.sock, READ | WRITE, self._ready)

    def _ready(self, events: int) -> None:
        if events & WRITE and self._to_flood:
            self._to_flood -= self.sock.send(bytes(min(self._to_flood, _RECEIVE_BYTES)))
            if not self._to_flood:
                self._reactor.watch(self.sock, READ, self._ready)
        if events & READ:
            self._read()

    def _read(self) -> None:
        try:
            data = self.sock.recv(self._most_bytes)
        except BlockingIOError:
            return
        at_ns = now_ns()
        if not data:
            raise FabricError(f"{self.name}: the relay closed the probing connection")
        if self.received == 0:
            data = data[1:]
            self.received = 1
        self.received += len(data)
        if self.flood_awaited > 0:
            self.flood_awaited -= len(data)
            self.points.append((at_ns, self.received))
            return
        self._buffer += data
        while len(self._buffer) >= _STAMP.size:
            self.flights.append((_STAMP.unpack_from(self._buffer)[0], at_ns))
            self.stamps_awaited -= 1
            del self._buffer[: _STAMP.size]


class _Probe:
    """A probing connection across one link."""

    def __init__(self, reactor: Reactor, plan: LinkPlan, address: tuple[str, int], sink: socket.socket) -> None:
        self.plan = plan
        self._reactor = reactor
        self._enough = 0
        child = socket.create_connection(address)
        sink.settimeout(_PATIENCE_S)
        parent, _ = sink.accept()
        self.child = _End(reactor, plan.name, child)
        self.parent = _End(reactor, plan.name, parent)

    def stamp_both(self, start_ns: int) -> None:
        """Plan the sending of stamps, spaced so that neither the rate nor the jitter makes one wait for another."""
        slowest_ns = max(_stamp_ns(self.plan.up_mbit_s), _stamp_ns(self.plan.down_mbit_s))
        spacing_ns = max(_SPACING_NS, round(2 * self.plan.jitter_ms * NS_PER_MS), round(4 * slowest_ns))
        count = min(max(_STAMPING_NS // spacing_ns, _MIN_STAMPS), _STAMPS)
        self._enough = count // 2
        for end in (self.child, self.parent):
            end.stamps_awaited += count
            for number in range(count):
                self._reactor.call_at(start_ns + number * spacing_ns, end.stamp)

    def flood_both(self) -> None:
        """Send for 0.3 s at the link's rate, in each direction that has one."""
        for sender, receiver, rate in (
            (self.child, self.parent, self.plan.up_mbit_s),
            (self.parent, self.child, self.plan.down_mbit_s),
        ):
            if rate is not None:
                size_bytes = min(max(int(rate * 1e6 / 8 * _RATE_S), _MIN_RATE_BYTES), _MAX_RATE_BYTES)
                receiver.await_flood(size_bytes)
                sender.flood(size_bytes)

    def delays_are_steady(self, stalls: Sequence[Span]) -> bool:
        """Whether half as many stamps as one try sends came through undisturbed, each way."""
        return all(len(undisturbed(end.flights, stalls)) >= self._enough for end in (self.child, self.parent))

    def rates_are_steady(self, stalls: Sequence[Span]) -> bool:
        """Whether both directions' last floods gave enough to go by."""
        return all(
            not end.points or len(slopes_mbit_s(end.points, stalls)) >= min(_ENOUGH_SLOPES, len(end.points) // 2)
            for end in (self.child, self.parent)
        )

    def measured(self, stalls: Sequence[Span]) -> LinkMeasured:
        # Even a few undisturbed ones tell more of the link; quartiles need two.
        up_flights, down_flights = (
            clean if len(clean := undisturbed(end.flights, stalls)) >= _MIN_STAMPS // 2 else end.flights
            for end in (self.parent, self.child)
        )
        up_delays_ms, up_spread_ms = delays_and_spread(up_flights, _stamp_ns(self.plan.up_mbit_s))
        down_delays_ms, down_spread_ms = delays_and_spread(down_flights, _stamp_ns(self.plan.down_mbit_s))
        plan = self.plan
        quartiles = (deviation_at(plan.jitter, share) for share in (0.75, 0.25))
        spread = 1.0 if plan.delay_trace else next(quartiles) - next(quartiles)
        return LinkMeasured(
            up_delays_ms=up_delays_ms,
            down_delays_ms=down_delays_ms,
            up_jitter_ms=up_spread_ms / spread,
            down_jitter_ms=down_spread_ms / spread,
            up_mbit_s=_rate(self.parent.points, stalls),
            down_mbit_s=_rate(self.child.points, stalls),
            steady=self.delays_are_steady(stalls) and self.rates_are_steady(stalls),
        )

    def close(self) -> None:
        for end in (self.child, self.parent):
            self._reactor.unwatch(end.sock)
            end.sock.close()


def _stamp_ns(rate: float | None) -> float:
    return 0.0 if rate is None else _STAMP.size * 8000.0 / rate


def _rate(points: list[Span], stalls: Sequence[Span]) -> float | None:
    if not points:
        return None
    return statistics.median(slopes_mbit_s(points, stalls) or slopes_mbit_s(points, ()))


def _ends(probes: Iterable[_Probe]) -> list[_End]:
    return [end for each in probes for end in (each.child, each.parent)]


def _connect(relay: Relay, reactor: Reactor) -> list[_Probe]:
    plans = sample(relay.links)
    with ExitStack() as listening:
        sinks = [listening.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in plans]
        routes = [
            Route(f"probe {plan.name}", (plan.name,), "127.0.0.1", sink.getsockname()[1], "opaque", probe=True)
            for plan, sink in zip(plans, sinks, strict=True)
        ]
        relay.open(routes)
        return [
            _Probe(reactor, plan, relay.probe_address(route.name), sink)
            for plan, sink, route in zip(plans, sinks, routes, strict=True)
        ]


def _until(reactor: Reactor, what: str, probes: Iterable[_Probe], reached: Callable[[_End], bool]) -> None:
    """Run the reactor until all ends have reached a state; raises FabricError that names the links that have not."""
    until_ns = now_ns() + int(_PATIENCE_S * NS_PER_S)
    waiting = _ends(probes)
    while waiting := [end for end in waiting if not reached(end)]:
        if now_ns() > until_ns:
            names = listed(sorted({end.name for end in waiting}))
            raise FabricError(f"links {names}: {what} did not arrive within {_PATIENCE_S:.0f} s")
        reactor.turn()
