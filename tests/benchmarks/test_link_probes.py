"""Messages that are held against the law of a link."""

from __future__ import annotations

import itertools
from collections.abc import Container

from benchmarks.link_probes import delays_by, read_together
from benchmarks.link_settings import link
from edgebench.clock import NS_PER_MS
from edgebench.core.lanes import lane_of, pipes_of
from edgebench.topology.link_traces import NO_TRACES

PLAN = link(50.0, jitter_ms=10.0)
SENT_NS = [30 * NS_PER_MS * number for number in range(1, 200)]


def law(together: Container[int]) -> list[float]:
    return delays_by(lane_of(PLAN, "up", pipes_of(PLAN, NO_TRACES)[0], NO_TRACES, 7), SENT_NS, together)


def arrivals(delays_ms: list[float], together: Container[int]) -> list[int]:
    """When a relay brings them there, which reads some with the one before."""
    there_ns = [sent + round(NS_PER_MS * ms) for sent, ms in zip(SENT_NS, delays_ms, strict=True)]
    for index in reversed(range(len(there_ns) - 1)):
        if index + 1 in together:
            there_ns[index] = there_ns[index + 1]
    return there_ns


def test_messages_that_were_read_together_are_found_and_shift_no_draw_after_them() -> None:
    read = frozenset({40, 41, 120})
    there_ns = arrivals(law(read), read)
    found_ms = [(there - sent) / NS_PER_MS for there, sent in zip(there_ns, SENT_NS, strict=True)]
    assert read_together(law, found_ms, there_ns) == read
    off_ms = [abs(found - asked) for found, asked in zip(found_ms, law(read), strict=True)]
    assert [index for index, ms in enumerate(off_ms) if ms > 1e-3] == [39, 40, 119]  # held up, and not by the link


def test_messages_that_waited_for_one_before_were_not_read_together() -> None:
    plan = link(50.0, jitter_ms=80.0)

    def crowded(together: Container[int]) -> list[float]:
        return delays_by(lane_of(plan, "up", pipes_of(plan, NO_TRACES)[0], NO_TRACES, 7), SENT_NS, together)

    found_ms = crowded(())
    there_ns = [sent + round(NS_PER_MS * ms) for sent, ms in zip(SENT_NS, found_ms, strict=True)]
    assert any(a == b for a, b in itertools.pairwise(there_ns))
    assert read_together(crowded, found_ms, there_ns) == frozenset()
