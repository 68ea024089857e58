"""The law of an emulated link: when a byte leaves, and when it arrives.

A link's direction is a lane. A byte leaves at max(previous departure, its arrival) + size / rate, on a departure clock
that all lanes of one pipe share, and arrives the latency later, in order. Rates are of TCP payload: headers are free.
"""

from __future__ import annotations

import heapq
import itertools
import math
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache

from edgebench.clock import NS_PER_MS, NS_PER_S
from edgebench.seeds import rng_for
from edgebench.topology.link_model import Jitter, Outage
from edgebench.topology.link_traces import OPPORTUNITY_BYTES, RateTrace

_NS_PER_BYTE_AT_1_MBIT_S = 8000.0
_DRAWS = 1024
PARETO_SHAPE = 3.0
PARETO_MEAN, PARETO_DEVIATION = 0.5, 0.75**0.5
"""Of NumPy's, which begins at 0."""
_MIN_PIECE_BYTES = 512
_MAX_PIECE_BYTES = 64 * 1024
_PIECE_NS = 10 * NS_PER_MS
_PIECE_AMONG_MANY_NS = NS_PER_MS // 2
_UNLIMITED_PENDING_BYTES = 4 * 1024 * 1024

WINDOW_NS = 100 * NS_PER_MS
"""How far one connection's queue may run ahead of a pipe; beyond it, TCP holds the sender back. What routers buffer."""


class Pipe:
    """One direction's departure clock. `rate_mbit_s` None is unlimited."""

    __slots__ = ("burst_ns_per_byte", "free_ns", "ns_per_byte", "rate_mbit_s")

    def __init__(self, rate_mbit_s: float | None) -> None:
        self.rate_mbit_s = rate_mbit_s
        self.ns_per_byte = 0.0 if rate_mbit_s is None else _NS_PER_BYTE_AT_1_MBIT_S / rate_mbit_s
        self.burst_ns_per_byte = self.ns_per_byte
        """While it is at its fastest."""
        self.free_ns = 0

    def departure_ns(self, arrival_ns: int, size_bytes: int) -> int:
        """When the last of `size_bytes` that arrive together has left."""
        self.free_ns = max(self.free_ns, arrival_ns) + round(size_bytes * self.ns_per_byte)
        return self.free_ns


class TracePipe(Pipe):
    """A pipe through which packets may leave at the times of a trace; what no byte waits for then is lost.

    Until it begins, it has the trace's mean rate. Source: mahimahi (Netravali et al. 2015).
    """

    __slots__ = ("_begin_ns", "_left", "_period_ms", "_taken", "_taken_ns", "_times_ms", "_upto")

    def __init__(self, trace: RateTrace, begin_ns: int | None = None) -> None:
        """begin_ns: when its time is 0."""
        super().__init__(trace.mean_mbit_s)
        self._times_ms = list(itertools.accumulate(trace.gaps_ms))
        self._upto = list(itertools.accumulate(trace.packets))
        self._period_ms = self._times_ms[-1]
        self._begin_ns = begin_ns
        self._taken = 0
        self._taken_ns = 0
        """`free_ns`, as it was when a packet was last taken."""
        self._left = 0
        self.burst_ns_per_byte = min(self.ns_per_byte, WINDOW_NS / (_most_in_window(trace) * OPPORTUNITY_BYTES))

    def begin(self, at_ns: int) -> None:
        """Its time is 0 then."""
        self._begin_ns = at_ns

    def departure_ns(self, arrival_ns: int, size_bytes: int) -> int:
        """See `Pipe`."""
        if self._begin_ns is None or arrival_ns < self._begin_ns:
            return super().departure_ns(arrival_ns, size_bytes)
        starts_ns = max(arrival_ns, self.free_ns)
        if starts_ns > self._taken_ns:  # what the trace had before then, nobody waited for, or another law held
            self.free_ns = starts_ns
            self._taken = max(self._taken, self._gone_before(starts_ns - self._begin_ns))
            self._left = 0
        if size_bytes > self._left:
            packets = -(-(size_bytes - self._left) // OPPORTUNITY_BYTES)
            self._taken += packets
            self._left += packets * OPPORTUNITY_BYTES
            self.free_ns = max(self.free_ns, self._begin_ns + self._time_ns(self._taken))
        self._left -= size_bytes
        self._taken_ns = self.free_ns
        return self.free_ns

    def _gone_before(self, time_ns: int) -> int:
        """How many packets could have left before a time."""
        time_ms = -(-time_ns // NS_PER_MS)
        rounds = max(0, (time_ms - 1) // self._period_ms)
        place = bisect_left(self._times_ms, time_ms - rounds * self._period_ms)
        return rounds * self._upto[-1] + (self._upto[place - 1] if place else 0)

    def _time_ns(self, packets: int) -> int:
        """When the last of so many may leave."""
        rounds, rest = divmod(packets - 1, self._upto[-1])
        return (rounds * self._period_ms + self._times_ms[bisect_right(self._upto, rest)]) * NS_PER_MS


@lru_cache(maxsize=64)
def _most_in_window(trace: RateTrace) -> int:
    """How many packets may leave in its best `WINDOW_NS`, at the most; it goes on from its end at its beginning."""
    window_ms = WINDOW_NS // NS_PER_MS
    times_ms = list(itertools.accumulate(trace.gaps_ms * 2))
    packets = trace.packets * 2
    most = within = first = 0
    for at_ms, more in zip(times_ms, packets, strict=True):
        within += more
        while times_ms[first] <= at_ms - window_ms:
            within -= packets[first]
            first += 1
        most = max(most, within)
    return most


class Outages:
    """When a lane carries nothing; all times in ns."""

    __slots__ = ("_repeated", "_single", "_starts_ns")

    def __init__(self, outages: Iterable[Outage], begin_ns: int) -> None:
        """begin_ns: the time from which theirs count."""
        spans = [
            (begin_ns + round(each.at_s * NS_PER_S), round((each.for_s or 0.0) * NS_PER_S), each.every_s)
            for each in outages
        ]
        self._single = sorted((at_ns, for_ns) for at_ns, for_ns, every_s in spans if every_s is None)
        self._starts_ns = [at_ns for at_ns, _ in self._single]
        self._repeated = [(at_ns, for_ns, round(every_s * NS_PER_S)) for at_ns, for_ns, every_s in spans if every_s]

    def __contains__(self, now_ns: int) -> bool:
        place = bisect_right(self._starts_ns, now_ns) - 1
        if place >= 0 and now_ns < sum(self._single[place]):
            return True
        return any(
            now_ns >= at_ns and (now_ns - at_ns) % every_ns < for_ns for at_ns, for_ns, every_ns in self._repeated
        )


def begins(outages: Iterable[Outage], begin_ns: int) -> Iterator[tuple[int, int, bool]]:
    """When outages begin, how long they last, both in ns, and whether they break connections: in order, without end
    where one is repeated."""

    def each(outage: Outage) -> Iterator[tuple[int, int, bool]]:
        for turn in itertools.count() if outage.every_s else (0,):
            at_s = outage.at_s + turn * (outage.every_s or 0.0)
            yield begin_ns + round(at_s * NS_PER_S), round((outage.for_s or 0.0) * NS_PER_S), outage.reset

    single = sorted(next(each(outage)) for outage in outages if outage.every_s is None)
    return heapq.merge(single, *(each(outage) for outage in outages if outage.every_s is not None))


class Losses:
    """Which packets a lane loses: each by a chance of its own, and all in an outage.

    `packets` have come by, `lost` of them were lost by chance.
    """

    __slots__ = ("_draws", "_passing", "lost", "outages", "packets")

    def __init__(self, draws: Iterator[int]) -> None:
        """draws: how many packets pass until the next one is lost; none where that does not happen."""
        self._draws = draws
        self._passing: float = next(draws, math.inf)
        self.outages: Outages | None = None
        self.packets = 0
        self.lost = 0

    def among(self, now_ns: int, packets: int) -> tuple[int, int]:
        """Of packets that come by one after the other: how many pass, and how many are lost then; look at the rest
        anew."""
        if self.outages is not None and now_ns in self.outages:
            return 0, packets
        if packets <= self._passing:
            self._passing -= packets
            self.packets += packets
            return packets, 0
        passing, self._passing = int(self._passing), next(self._draws)
        self.packets += passing + 1
        self.lost += 1
        return passing, 1


class Lane:
    """One direction of one link: its pipe, its latency, and what has crossed it.

    jitter: `draws` gives how far off the latency what is sent is, as multiples of `jitter_ns`. One draw serves all that
    leaves without a pause, so that the pieces of a message stay together and keeping them in order does not bias the
    latency upwards.
    """

    __slots__ = (
        "_draws",
        "_jitter_ns",
        "_last_ns",
        "_offset_ns",
        "bytes",
        "latency_ns",
        "losses",
        "messages",
        "opaque",
        "pipe",
    )

    def __init__(self, pipe: Pipe, latency_ns: int, jitter_ns: int, draws: Iterator[float]) -> None:
        self.pipe = pipe
        self.latency_ns = latency_ns
        self.bytes = 0
        self.messages = 0
        self.opaque = False
        self.losses: Losses | None = None
        self._jitter_ns = jitter_ns
        self._draws = draws
        self._offset_ns = 0
        self._last_ns = 0

    @property
    def holds_back(self) -> bool:
        """Whether what it carries is any later for it."""
        return bool(self.latency_ns or self._jitter_ns or self.pipe.ns_per_byte)

    def reshape(self, latency_ns: int, jitter_ns: int, draws: Iterator[float]) -> None:
        """Carry in another way from now on; what is under way arrives as it was to, and nothing before it."""
        self.latency_ns = latency_ns
        self._jitter_ns = jitter_ns
        self._draws = draws
        self._offset_ns = 0

    def leave_by(self, pipe: Pipe) -> None:
        """Use another pipe from now on, after what has entered the one before."""
        pipe.free_ns = max(pipe.free_ns, self.pipe.free_ns)
        self.pipe = pipe

    def carry(self, arrival_ns: int, size_bytes: int) -> tuple[int, int]:
        """The times at which these bytes have left and at which they arrive at the other end; never before the last."""
        # Nothing waits in a pipe without a rate; one that comes a little late to be offered came before the last one.
        if self._jitter_ns and (arrival_ns >= self.pipe.free_ns or not self.pipe.ns_per_byte):
            self._offset_ns = round(self._jitter_ns * next(self._draws))
        departure_ns = self.pipe.departure_ns(arrival_ns, size_bytes)
        self._last_ns = max(self._last_ns, departure_ns + max(0, self.latency_ns + self._offset_ns))
        return departure_ns, self._last_ns

    def echo_ns(self, arrival_ns: int) -> int:
        """When an acknowledgement arrives that comes to this lane at a time: behind what is queued, without a size."""
        return max(arrival_ns, self.pipe.free_ns) + max(0, self.latency_ns + self._offset_ns)

    def count(self, size_bytes: int, messages: int) -> None:
        """Note what has arrived."""
        self.bytes += size_bytes
        self.messages += messages


def jitter_draws(jitter: Jitter, seed: int, *purpose: str) -> Iterator[float]:
    """Endless numbers for one lane, with a mean of 0: uniform in [-1, 1), or with a standard deviation of 1.

    `pareto` is of shape 3, as the table that comes with netem (Hemminger 2005) is made from, without its cut at four
    deviations.
    """
    rng = rng_for(seed, "jitter", *purpose)
    while True:
        match jitter:
            case "uniform":
                drawn = rng.uniform(-1.0, 1.0, _DRAWS)
            case "normal":
                drawn = rng.standard_normal(_DRAWS)
            case "pareto":
                drawn = (rng.pareto(PARETO_SHAPE, _DRAWS) - PARETO_MEAN) / PARETO_DEVIATION
        yield from drawn.tolist()


def deviation_at(jitter: Jitter, share: float) -> float:
    """The quantile of `jitter_draws`. share: above 0 and below 1."""
    match jitter:
        case "uniform":
            return 2.0 * share - 1.0
        case "normal":
            from statistics import NormalDist  # only here: half a megabyte, which a device has no need of

            return NormalDist().inv_cdf(share)
        case "pareto":
            return ((1.0 - share) ** (-1.0 / PARETO_SHAPE) - 1.0 - PARETO_MEAN) / PARETO_DEVIATION


def trace_draws(delays_ms: Sequence[float], middle_ms: float, seed: int, *purpose: str) -> Iterator[float]:
    """A trace's delays less its middle, one after the other and over again, from a place of the lane's own on."""
    place = int(rng_for(seed, "delays", *purpose).integers(len(delays_ms)))
    while True:
        yield delays_ms[place] - middle_ms
        place = (place + 1) % len(delays_ms)


def loss_draws(loss_percent: float, seed: int, *purpose: str) -> Iterator[int]:
    """Endless numbers of packets that pass between two that are lost, for one lane that loses each by this chance;
    nothing where there is none."""
    rng = rng_for(seed, "loss", *purpose)
    while loss_percent:
        yield from (rng.geometric(loss_percent / 100.0, _DRAWS) - 1).tolist()


def latency_ns(lanes: tuple[Lane, ...]) -> int:
    """Of lanes one after the other."""
    return sum(lane.latency_ns for lane in lanes)


def _slowest_ns_per_byte(lanes: tuple[Lane, ...]) -> float:
    return max(lane.pipe.ns_per_byte for lane in lanes)


def piece_bytes(lanes: tuple[Lane, ...], *, answered: bool = False) -> int:
    """How much moves as one: what the slowest lane carries in 0.5 ms, or in 10 ms where it is the only one.

    A message's last byte crosses one lane on time whatever the size of its pieces, and large ones cost less. At each
    further lane a piece is stored and forwarded as a packet is, so there it has to be small; as it has to be where each
    is answered, and the answer lets another one go.
    """
    slowest = _slowest_ns_per_byte(lanes)
    if slowest == 0.0:
        return _MAX_PIECE_BYTES
    piece_ns = _PIECE_NS if len(lanes) == 1 and not answered else _PIECE_AMONG_MANY_NS
    return min(max(int(piece_ns / slowest), _MIN_PIECE_BYTES), _MAX_PIECE_BYTES)


def pending_bytes_bound(lanes: tuple[Lane, ...]) -> int:
    """How much of one connection may be under way: twice what the slowest lane, at its fastest, carries in latency and
    window."""
    slowest = max(lane.pipe.burst_ns_per_byte for lane in lanes)
    if slowest == 0.0:
        return _UNLIMITED_PENDING_BYTES
    time_ns = latency_ns(lanes) + WINDOW_NS
    return max(int(2 * time_ns / slowest), 2 * piece_bytes(lanes))


def mbit_s(size_bytes: float, time_ns: float) -> float:
    """A rate in Mbit/s."""
    return size_bytes * 8 / 1e6 / (time_ns / NS_PER_S)
