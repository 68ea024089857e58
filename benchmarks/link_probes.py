"""Sockets at both ends of emulated links: messages that are stamped, floods that are counted, and what the law of links
says of them (`edgebench.core.lanes`), to hold against each other."""

from __future__ import annotations

import itertools
import socket
import struct
import subprocess
import sys
import tempfile
from collections.abc import Callable, Container, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from benchmarks.link_settings import SEED, link
from edgebench.clock import NS_PER_MS, NS_PER_S, now_ns
from edgebench.core.lanes import WAYS, Way, lane_of, pipes_of
from edgebench.core.links import Lane
from edgebench.fabric.arrivals import note_arrivals, receive
from edgebench.fabric.links import Relay
from edgebench.fabric.reactor import READ, WRITE, Reactor
from edgebench.fabric.relay import Route
from edgebench.topology.deployment import LinkPlan
from edgebench.topology.link_traces import NO_TRACES, LinkTraces

STAMP = struct.Struct("<q192x")
"""A message of 200 bytes, with the time at which it was sent."""
_RECEIVE_BYTES = 1 << 18
_FLOOD = bytes(_RECEIVE_BYTES)
_PATIENCE_S = 60.0
_ANSWER = b"here"
_LOOK_AHEAD = 30
_serial = itertools.count()

Flight = tuple[int, int]
"""When a message was sent, and when it was there."""


class End:
    """One end of a connection. flights: of the messages that have come; points: (time, bytes so far) as counting a
    flood begins, and after each read of it. What comes counts from when the kernel had it for this process: how long
    that one then takes to wake is no matter of a link's."""

    def __init__(self, reactor: Reactor, sock: socket.socket) -> None:
        self.flights: list[Flight] = []
        self.points: list[tuple[int, int]] = []
        self.greeted_ns = 0
        self._reactor = reactor
        self._sock = sock
        self._received = 0
        self._greeting = True
        self._flooding = False
        self._is_flooded = False
        self._answering = self._ignoring = False
        self._buffer = bytearray()
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        note_arrivals(sock)
        reactor.watch(sock, READ, self._ready)

    @property
    def greeted(self) -> bool:
        """Whether the other end's first byte has come: then the connection is there."""
        return not self._greeting

    def greet(self) -> None:
        """Send the first byte."""
        self.greeted_ns = now_ns()
        self._sock.send(b"h")

    def stamp(self) -> None:
        """Send a message."""
        self._sock.send(STAMP.pack(now_ns()))

    def answer(self) -> None:
        """Answer each message with a few bytes from now on, as a broker does; they count for nothing."""
        self._answering = True

    def flood(self) -> None:
        """Send as much as goes, until `hush`."""
        self._flooding = True
        self._reactor.watch(self._sock, READ | WRITE, self._ready)

    def hush(self) -> None:
        """No more."""
        self._flooding = False
        self._reactor.watch(self._sock, READ, self._ready)

    def count(self) -> None:
        """What comes from now on is a flood."""
        self._is_flooded = True
        self.points = [(now_ns(), self._received)]

    def ignore(self) -> None:
        """What comes is answers."""
        self._ignoring = True

    def _ready(self, events: int) -> None:
        if events & WRITE and self._flooding:
            with suppress(BlockingIOError):
                self._sock.send(_FLOOD)
        if events & READ:
            self._read()

    def _read(self) -> None:
        try:
            data, at_ns = receive(self._sock, _RECEIVE_BYTES)
        except BlockingIOError:
            return
        if not data:
            raise SystemExit("the relay has closed a connection")
        if self._greeting:
            self._greeting, data = False, data[1:]
        self._received += len(data)
        if self._is_flooded:
            self.points.append((at_ns, self._received))
            return
        if self._ignoring:
            return
        self._buffer += data
        while len(self._buffer) >= STAMP.size:
            self.flights.append((STAMP.unpack_from(self._buffer)[0], at_ns))
            del self._buffer[: STAMP.size]
            if self._answering:
                self._sock.send(_ANSWER)


@dataclass(frozen=True)
class Pair:
    """Both ends of a connection across a link."""

    plan: LinkPlan
    child: End
    parent: End

    def receiver(self, way: Way) -> End:
        """Where what goes that way arrives."""
        return self.parent if way == "up" else self.child

    def sender(self, way: Way) -> End:
        """Where it begins."""
        return self.child if way == "up" else self.parent


@contextmanager
def relayed(plans: Sequence[LinkPlan], traces: LinkTraces = NO_TRACES) -> Iterator[Relay]:
    """A relay that emulates these links."""
    with (
        tempfile.TemporaryDirectory(prefix="edgebench-links-") as directory,
        Relay.start(plans, [], seed=SEED, log_dir=Path(directory), traces=traces) as relay,
    ):
        yield relay


@contextmanager
def connected(relay: Relay, plans: Sequence[LinkPlan]) -> Iterator[tuple[Reactor, list[Pair]]]:
    """A connection across each of these links."""
    with ExitStack() as closing:
        reactor = Reactor()
        closing.callback(reactor.close)
        sink = closing.enter_context(socket.create_server(("127.0.0.1", 0), backlog=1024))
        serial = next(_serial)
        routes = [
            Route(f"pair {serial} {number}", (plan.name,), "127.0.0.1", sink.getsockname()[1], "opaque")
            for number, plan in enumerate(plans)
        ]
        relay.open(routes)
        pairs = [
            _pair(closing, reactor, plan, relay.address(route.name), sink)
            for plan, route in zip(plans, routes, strict=True)
        ]
        _greet(reactor, pairs)
        yield reactor, pairs


@contextmanager
def copied(*options: str) -> Iterator[tuple[Reactor, Pair]]:
    """A connection that a plain copy carries. options: see `plain_copy.py`."""
    with ExitStack() as closing:
        reactor = Reactor()
        closing.callback(reactor.close)
        sink = closing.enter_context(socket.create_server(("127.0.0.1", 0)))
        command = [sys.executable, "-m", "benchmarks.plain_copy", str(sink.getsockname()[1]), *options]
        copying = closing.enter_context(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE))
        assert copying.stdin is not None
        assert copying.stdout is not None
        closing.callback(copying.stdin.close)
        pair = _pair(closing, reactor, link(0.0), ("127.0.0.1", int(copying.stdout.readline())), sink)
        _greet(reactor, [pair])
        yield reactor, pair


def _pair(closing: ExitStack, reactor: Reactor, plan: LinkPlan, address: tuple[str, int], sink: socket.socket) -> Pair:
    child = closing.enter_context(socket.create_connection(address))
    parent, _ = sink.accept()
    closing.enter_context(parent)
    return Pair(plan, End(reactor, child), End(reactor, parent))


def _greet(reactor: Reactor, pairs: Sequence[Pair]) -> None:
    """Send the first byte both ways, and wait until it has come everywhere."""
    ends = [end for pair in pairs for end in (pair.child, pair.parent)]
    for end in ends:
        end.greet()
    until_ns = now_ns() + round(_PATIENCE_S * NS_PER_S)
    while not all(end.greeted for end in ends):
        if now_ns() > until_ns:
            raise SystemExit(f"no connection within {_PATIENCE_S:.0f} s")
        reactor.call_later(0.1, lambda: None)
        reactor.turn()


def run_for(reactor: Reactor, time_s: float) -> None:
    """Let the reactor run so long."""
    over: list[bool] = []
    reactor.call_later(time_s, lambda: over.append(True))
    while not over:
        reactor.turn()


def stamp_regularly(
    reactor: Reactor, ends: Sequence[End], count: int, gap_ns: int, offsets_ns: Sequence[int] | None = None
) -> None:
    """Send `count` messages from each end, so far apart, each end at times of its own; waits until all are sent.

    offsets_ns: of each message, by which it is later than that; less than the gap over the number of ends.
    """
    first_ns = now_ns() + 10 * NS_PER_MS
    for place, end in enumerate(ends):
        for number in range(count):
            offset_ns = 0 if offsets_ns is None else offsets_ns[number]
            reactor.call_at(first_ns + number * gap_ns + place * gap_ns // len(ends) + offset_ns, end.stamp)
    run_for(reactor, (first_ns - now_ns() + count * gap_ns) / NS_PER_S)


@dataclass(frozen=True)
class Timing:
    """Of messages one way, in ms: the p99 of how far each was off the law, and each percentile as the law gives it and
    as it was found."""

    p99_error_ms: float
    percentiles: dict[str, tuple[float, float]]


def timing(pair: Pair, way: Way, traces: LinkTraces, seed: int) -> Timing:
    """Messages of one way, of a connection that had the link, and its seed's draws, to itself."""
    flights = sorted(pair.receiver(way).flights)

    def law(together: Container[int]) -> list[float]:
        lane = lane_of(pair.plan, way, pipes_of(pair.plan, traces)[WAYS.index(way)], traces, seed)
        lane.carry(pair.sender(way).greeted_ns, 1)
        return delays_by(lane, [sent_ns for sent_ns, _ in flights], together)

    found_ms = [(there_ns - sent_ns) / NS_PER_MS for sent_ns, there_ns in flights]
    asked_ms = law(read_together(law, found_ms, [there_ns for _, there_ns in flights]))
    errors_ms = sorted(abs(found - asked) for found, asked in zip(found_ms, asked_ms, strict=True))
    return Timing(
        p99_error_ms=quantile(errors_ms, 0.99),
        percentiles={
            f"p{round(100 * share)}": (round(quantile(asked_ms, share), 3), round(quantile(found_ms, share), 3))
            for share in (0.5, 0.9, 0.99)
        },
    )


def delays_by(lane: Lane, sent_ns: Sequence[int], together: Container[int]) -> list[float]:
    """What the law has each message take, ms. together: those that the relay read with the one before, which counts
    from the later then, with one draw for both; what that adds to the earlier is its error, and not the law's."""
    delays: list[float] = []
    waiting = 0
    for index, at_ns in enumerate(sent_ns):
        waiting += 1
        if index + 1 in together:
            continue
        _, due_ns = lane.carry(at_ns, waiting * STAMP.size)
        delays += [(due_ns - at_ns) / NS_PER_MS] * waiting
        waiting = 0
    return delays


def read_together(
    law: Callable[[Container[int]], list[float]], found_ms: Sequence[float], there_ns: Sequence[int]
) -> frozenset[int]:
    """Which messages the relay read with the one before, because the machine had held it up: all draws after that are
    one message off. They arrived together, as those do that had to wait for one before; which of the two it was is
    told by what came after."""
    together: frozenset[int] = frozenset()
    runs = itertools.groupby(range(len(there_ns)), key=lambda index: there_ns[index])
    for _, run in runs:
        _, *more = run
        if not more:
            continue
        after = slice(more[-1] + 1, more[-1] + 1 + _LOOK_AHEAD)
        choices = [frozenset(range(begin, end + 1)) for begin in more for end in more if begin <= end]
        together |= min(
            [frozenset[int](), *choices], key=lambda choice: _off(law(together | choice)[after], found_ms[after])
        )
    return together


def _off(asked_ms: Sequence[float], found_ms: Sequence[float]) -> float:
    return sum(abs(found - asked) for found, asked in zip(found_ms, asked_ms, strict=True))


def quantile(values: Sequence[float], share: float) -> float:
    """The value that this share of the values does not exceed."""
    ordered = sorted(values)
    return ordered[min(int(share * len(ordered)), len(ordered) - 1)]


def flood_mbit_s(
    reactor: Reactor, pairs: Sequence[Pair], way: Way, time_s: float, warm_s: float
) -> tuple[float, list[int]]:
    """The rate of connections that flood one way at once, after a while, and the bytes of each meanwhile."""
    for pair in pairs:
        pair.receiver(way).count()
        pair.sender(way).flood()
    run_for(reactor, warm_s + time_s)
    for pair in pairs:
        pair.sender(way).hush()
    # What each read brought, of all of them in the order of time; what comes first in the window only begins it.
    reads = sorted(
        (at_ns, upto - before, number)
        for number, pair in enumerate(pairs)
        for (_, before), (at_ns, upto) in itertools.pairwise(pair.receiver(way).points)
    )
    begin_ns = reads[0][0] + round(warm_s * NS_PER_S)
    steady = [read for read in reads if read[0] >= begin_ns]
    if len(steady) < 2:
        raise SystemExit(f"{pairs[0].plan.name}: hardly anything arrived of a flood of {warm_s + time_s:.1f} s")
    bytes_of = [0] * len(pairs)
    for _, size, number in steady[1:]:
        bytes_of[number] += size
    return sum(bytes_of) * 8e3 / (steady[-1][0] - steady[0][0]), bytes_of
