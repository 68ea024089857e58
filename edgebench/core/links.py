"""The law of an emulated link: when a byte leaves, and when it arrives.

A link's direction is a lane. A byte leaves at max(previous departure, its arrival) + size / rate, on a departure clock
that all lanes of one pipe share, and arrives the latency later, in order. Rates are of TCP payload: headers are free.
"""

from __future__ import annotations

from collections.abc import Iterator

from edgebench.clock import NS_PER_MS, NS_PER_S
from edgebench.seeds import rng_for
from edgebench.topology.model import Jitter

_NS_PER_BYTE_AT_1_MBIT_S = 8000.0
_DRAWS = 1024
_PARETO_SHAPE = 3.0
_PARETO_MEAN, _PARETO_DEVIATION = 0.5, 0.75**0.5
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

    __slots__ = ("free_ns", "ns_per_byte", "rate_mbit_s")

    def __init__(self, rate_mbit_s: float | None) -> None:
        self.rate_mbit_s = rate_mbit_s
        self.ns_per_byte = 0.0 if rate_mbit_s is None else _NS_PER_BYTE_AT_1_MBIT_S / rate_mbit_s
        self.free_ns = 0

    def departure_ns(self, arrival_ns: int, size_bytes: int) -> int:
        """When the last of `size_bytes` that arrive together has left."""
        self.free_ns = max(self.free_ns, arrival_ns) + round(size_bytes * self.ns_per_byte)
        return self.free_ns


class Lane:
    """One direction of one link: its pipe, its latency, and what has crossed it.

    jitter: `draws` gives how far off the latency what is sent is, as multiples of `jitter_ns`. One draw serves all that
    leaves without a pause, so that the pieces of a message stay together and keeping them in order does not bias the
    latency upwards.
    """

    __slots__ = ("_draws", "_jitter_ns", "_last_ns", "_offset_ns", "bytes", "latency_ns", "messages", "opaque", "pipe")

    def __init__(self, pipe: Pipe, latency_ns: int, jitter_ns: int, draws: Iterator[float]) -> None:
        self.pipe = pipe
        self.latency_ns = latency_ns
        self.bytes = 0
        self.messages = 0
        self.opaque = False
        self._jitter_ns = jitter_ns
        self._draws = draws
        self._offset_ns = 0
        self._last_ns = 0

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
        if self._jitter_ns and arrival_ns >= self.pipe.free_ns:
            self._offset_ns = round(self._jitter_ns * next(self._draws))
        departure_ns = self.pipe.departure_ns(arrival_ns, size_bytes)
        self._last_ns = max(self._last_ns, departure_ns + max(0, self.latency_ns + self._offset_ns))
        return departure_ns, self._last_ns

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
                drawn = (rng.pareto(_PARETO_SHAPE, _DRAWS) - _PARETO_MEAN) / _PARETO_DEVIATION
        yield from drawn.tolist()


def _slowest_ns_per_byte(lanes: tuple[Lane, ...]) -> float:
    return max(lane.pipe.ns_per_byte for lane in lanes)


def piece_bytes(lanes: tuple[Lane, ...]) -> int:
    """How much moves as one: what the slowest lane carries in 0.5 ms, or in 10 ms where it is the only one.

    A message's last byte crosses one lane on time whatever the size of its pieces, and large ones cost less. At each
    further lane a piece is stored and forwarded as a packet is, so there it has to be small.
    """
    slowest = _slowest_ns_per_byte(lanes)
    if slowest == 0.0:
        return _MAX_PIECE_BYTES
    piece_ns = _PIECE_NS if len(lanes) == 1 else _PIECE_AMONG_MANY_NS
    return min(max(int(piece_ns / slowest), _MIN_PIECE_BYTES), _MAX_PIECE_BYTES)


def pending_bytes_bound(lanes: tuple[Lane, ...]) -> int:
    """How much of one connection may be under way: twice what the slowest lane carries in latency and window."""
    slowest = _slowest_ns_per_byte(lanes)
    if slowest == 0.0:
        return _UNLIMITED_PENDING_BYTES
    time_ns = sum(lane.latency_ns for lane in lanes) + WINDOW_NS
    return max(int(2 * time_ns / slowest), 2 * piece_bytes(lanes))


def mbit_s(size_bytes: float, time_ns: float) -> float:
    """A rate in Mbit/s."""
    return size_bytes * 8 / 1e6 / (time_ns / NS_PER_S)
