"""A link of a deployment as lanes."""

from __future__ import annotations

import msgspec
import pytest

from edgebench.core.lanes import delays_ms, lane_of, pipes_of, reshape
from edgebench.core.links import TracePipe
from edgebench.topology.deployment import LinkPlan
from edgebench.topology.link_traces import NO_TRACES, LinkTraces, RateTrace

MS = 1_000_000
PLAN = LinkPlan("bed", "ward", 20.0, 0.0, 8.0, None, "p")


def test_the_delays_that_are_asked_for_are_known_by_percentile() -> None:
    uniform = LinkPlan("bed", "ward", 20.0, 2.0, None, None, "p")
    assert delays_ms(uniform) == pytest.approx((20.0, 21.6, 21.96))
    assert delays_ms(LinkPlan("a", "b", 20.0, 2.0, None, None, "p", jitter="normal")) == pytest.approx(
        (20.0, 22.563, 24.653), abs=0.001
    )
    assert delays_ms(LinkPlan("a", "b", 20.0, 2.0, None, None, "p", delays_ms=(5.0, 6.0, 7.0))) == (5.0, 6.0, 7.0)


def test_a_link_is_two_lanes_by_its_own_rates() -> None:
    up, down = pipes_of(PLAN, NO_TRACES)
    assert lane_of(PLAN, "up", up, NO_TRACES, 7).carry(0, 1000) == (1 * MS, 21 * MS)
    assert lane_of(PLAN, "down", down, NO_TRACES, 7).carry(0, 1000) == (0, 20 * MS)


def test_a_link_with_traces_takes_what_they_say() -> None:
    traces = LinkTraces(rates={"r": RateTrace((10,), (1,))}, delays={"d": [5.0, 5.0]})
    plan = msgspec.structs.replace(PLAN, up_trace="r", delay_trace="d", latency_ms=5.0)
    up, down = pipes_of(plan, traces, begin_ns=100 * MS)
    assert isinstance(up, TracePipe)
    assert not isinstance(down, TracePipe)
    assert lane_of(plan, "up", up, traces, 7).carry(101 * MS, 1504) == (110 * MS, 115 * MS)


def test_a_link_that_loses_no_more_goes_on_counting() -> None:
    lane = lane_of(msgspec.structs.replace(PLAN, loss_percent=50.0), "up", pipes_of(PLAN, NO_TRACES)[0], NO_TRACES, 7)
    assert lane.losses is not None
    lane.losses.packets = 10
    reshape(lane, PLAN, "up", NO_TRACES, 7, turn=1)
    assert lane.losses is not None
    assert lane.losses.among(0, 1000) == (1000, 0)
    assert lane.losses.packets == 1010
