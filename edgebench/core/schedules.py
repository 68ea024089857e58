"""When samples are due: open-loop schedules that no slow system can hold up, and MLPerf's closed loops.

Source of the closed-loop rules: MLPerf Inference rules, load generator scenarios.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from edgebench.clock import NS_PER_S
from edgebench.seeds import rng_for
from edgebench.topology.model import (
    After,
    Fixed,
    Load,
    MultiStream,
    Offline,
    Poisson,
    Server,
    SingleStream,
    Trace,
    With,
)


def open_loop(
    load: Load, *, seed: int, device: str, workload: str, duration_s: float, trace_s: list[float]
) -> Iterator[int]:
    """Due times in ns from the start of the run, ascending, below the duration; each device has its own chance.

    trace_s: the times of a Trace load. A closed loop has none, nor has what follows another workload's decisions.
    """
    end_ns = int(duration_s * NS_PER_S)
    match load:
        case Fixed(rate_hz=rate_hz):
            period_ns = NS_PER_S / rate_hz
            phase_ns = rng_for(seed, "load", workload, device).uniform(0.0, period_ns)
            n = 0
            while (due_ns := int(phase_ns + n * period_ns)) < end_ns:
                yield due_ns
                n += 1
        case Poisson(rate_hz=rate_hz) | Server(rate_hz=rate_hz):
            rng = rng_for(seed, "load", workload, device)
            at_ns = 0.0
            while (at_ns := at_ns + rng.exponential(NS_PER_S / rate_hz)) < end_ns:
                yield int(at_ns)
        case Trace():
            for at_s in trace_s:
                if at_s < duration_s:
                    yield int(at_s * NS_PER_S)
        case Offline(samples=samples):
            for _ in range(samples):
                yield 0
        case SingleStream() | MultiStream() | After() | With():
            return


def within(offsets: Iterator[int], spans: Sequence[tuple[int, int]]) -> Iterator[int]:
    """Those of the ascending times that lie within one of the spans, which are apart and in order.

    >>> list(within(iter([0, 1, 2, 3, 4, 5]), [(1, 2), (4, 9)]))
    [1, 4, 5]
    """
    waiting = iter(spans)
    span = next(waiting, None)
    for offset in offsets:
        while span is not None and offset >= span[1]:
            span = next(waiting, None)
        if span is None:
            return
        if offset >= span[0]:
            yield offset


def query_size(load: Load) -> int | None:
    """Samples a query of a closed loop, None for an open one."""
    match load:
        case SingleStream():
            return 1
        case MultiStream(samples=samples):
            return samples
        case _:
            return None
