"""A link's arithmetic, against numbers worked out by hand. 8 Mbit/s is 1,000 bytes a ms."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest

from edgebench.core.links import (
    Lane,
    Losses,
    Outages,
    Pipe,
    TracePipe,
    begins,
    jitter_draws,
    loss_draws,
    pending_bytes_bound,
    piece_bytes,
    trace_draws,
)
from edgebench.topology.link_model import Jitter, Outage
from edgebench.topology.link_traces import RateTrace

S = 1_000_000_000
MS = 1_000_000
NO_DRAWS: Iterator[float] = iter(())


def lane(rate: float | None, latency_ms: int = 0) -> Lane:
    return Lane(Pipe(rate), latency_ms * MS, 0, NO_DRAWS)


def test_bytes_leave_after_size_over_rate() -> None:
    assert Pipe(8.0).departure_ns(5 * MS, 3000) == 8 * MS


def test_bytes_wait_for_those_before_them() -> None:
    pipe = Pipe(8.0)
    assert pipe.departure_ns(0, 10_000) == 10 * MS
    assert pipe.departure_ns(4 * MS, 1000) == 11 * MS


def test_an_idle_pipe_saves_nothing_up() -> None:
    pipe = Pipe(8.0)
    pipe.departure_ns(0, 1000)
    assert pipe.departure_ns(100 * MS, 1000) == 101 * MS


def test_an_unlimited_pipe_takes_no_time() -> None:
    assert Pipe(None).departure_ns(7, 1 << 30) == 7


def test_rounding_does_not_add_up() -> None:
    pipe = Pipe(20.0)  # 400 ns a byte
    for _ in range(10_000):
        pipe.departure_ns(0, 1461)
    assert pipe.free_ns == 10_000 * 1461 * 400


def test_a_lane_adds_its_latency_after_the_departure() -> None:
    assert lane(8.0, latency_ms=20).carry(0, 1000) == (1 * MS, 21 * MS)


def test_lanes_of_one_pipe_share_its_rate_but_not_its_latency() -> None:
    pipe = Pipe(8.0)
    near = Lane(pipe, 2 * MS, 0, NO_DRAWS)
    far = Lane(pipe, 20 * MS, 0, NO_DRAWS)
    assert near.carry(0, 1000) == (1 * MS, 3 * MS)
    assert far.carry(0, 1000) == (2 * MS, 22 * MS)


def test_jitter_moves_the_arrival_by_its_share_of_the_draw() -> None:
    jittery = Lane(Pipe(8.0), 20 * MS, 2 * MS, iter([-0.5, 1.0]))
    assert jittery.carry(0, 1000)[1] == 20 * MS  # 1 + 20 − 1
    assert jittery.carry(100 * MS, 1000)[1] == 123 * MS  # 101 + 20 + 2


def test_jitter_does_not_reorder() -> None:
    jittery = Lane(Pipe(None), 20 * MS, 5 * MS, iter([1.0, -1.0]))
    assert jittery.carry(0, 10)[1] == 25 * MS
    assert jittery.carry(1 * MS, 10)[1] == 25 * MS


def test_what_leaves_without_a_pause_has_one_jitter() -> None:
    jittery = Lane(Pipe(8.0), 20 * MS, 2 * MS, iter([0.5]))
    assert [jittery.carry(0, 1000)[1] for _ in range(3)] == [22 * MS, 23 * MS, 24 * MS]


def test_what_is_offered_after_one_that_came_later_has_a_jitter_of_its_own() -> None:
    """Two connections share a lane, and are read one after the other."""
    shared = Lane(Pipe(None), 20 * MS, 10 * MS, iter([-0.5, 0.5]))
    assert shared.carry(1_000, 100)[1] == 1_000 + 15 * MS
    assert shared.carry(900, 100)[1] == 1_000 + 25 * MS


def test_jitter_larger_than_the_latency_never_arrives_before_it_left() -> None:
    jittery = Lane(Pipe(8.0), 1 * MS, 5 * MS, iter([-1.0]))
    assert jittery.carry(0, 1000) == (1 * MS, 1 * MS)


def test_jitter_is_uniform_and_each_lane_has_its_own() -> None:
    draws = drawn("uniform", "bed-0 -> ward-0", "up")
    assert min(draws) >= -1
    assert max(draws) < 1
    assert abs(sum(draws) / 20_000) < 0.02
    assert draws == drawn("uniform", "bed-0 -> ward-0", "up")
    assert draws != drawn("uniform", "bed-0 -> ward-0", "down")


def drawn(jitter: Jitter, *purpose: str) -> list[float]:
    return list(itertools.islice(jitter_draws(jitter, 7, *purpose), 20_000))


@pytest.mark.parametrize(
    ("jitter", "quantiles"),
    [
        ("normal", {0.01: -2.326, 0.5: 0.0, 0.99: 2.326}),
        # Of 1 / u ** (1 / 3), less its mean of 1.5, over its deviation of 0.866.
        ("pareto", {0.0: -0.577, 0.5: -0.277, 0.9: 0.756, 0.99: 3.628}),
    ],
)
def test_jitter_by_distribution_has_its_quantiles_about_a_mean_of_zero(
    jitter: Jitter, quantiles: dict[float, float]
) -> None:
    draws = sorted(drawn(jitter))
    assert abs(sum(draws) / 20_000) < 0.03
    for share, expected in quantiles.items():
        assert abs(draws[int(share * 20_000)] - expected) < 0.05 + 0.05 * abs(expected)


def test_a_lane_that_is_reshaped_keeps_the_order_of_what_is_under_way() -> None:
    far = lane(8.0, latency_ms=50)
    assert far.carry(0, 1000) == (1 * MS, 51 * MS)
    far.reshape(2 * MS, 0, NO_DRAWS)
    far.leave_by(Pipe(80.0))
    assert far.carry(0, 1000) == (1 * MS + MS // 10, 51 * MS)
    assert far.carry(100 * MS, 1000) == (100 * MS + MS // 10, 102 * MS + MS // 10)


def test_two_lanes_in_turn_carry_a_message_as_store_and_forward_does() -> None:
    first, second = lane(8.0, latency_ms=2), lane(4.0, latency_ms=20)
    _, at_second = first.carry(0, 1000)
    assert at_second == 3 * MS
    assert second.carry(at_second, 1000) == (5 * MS, 25 * MS)


@pytest.mark.parametrize(
    ("rates", "expected"),
    [
        ((20.0,), 25_000),
        ((40.0, 20.0), 1250),
        ((0.1,), 512),
        ((1000.0,), 65_536),
        ((None,), 65_536),
        ((None, 80.0), 5000),
    ],
)
def test_a_piece_is_what_the_slowest_lane_carries_in_half_a_ms_or_the_only_one_in_10(
    rates: tuple[float | None, ...], expected: int
) -> None:
    assert piece_bytes(tuple(map(lane, rates))) == expected


def test_what_may_be_under_way_is_twice_latency_and_window_at_the_slowest_rate() -> None:
    assert pending_bytes_bound((lane(40.0, 2), lane(8.0, 20))) == 2 * 122 * 1000
    assert pending_bytes_bound((lane(None, 20),)) == 4 * 1024 * 1024


TRACE = RateTrace(gaps_ms=(1, 1, 3), packets=(1, 2, 1))
"""One packet of 1,504 bytes at 1 ms, two at 2, one at 5, at which it begins anew: 6, 7, 7, 10, …"""


def test_bytes_leave_at_the_times_of_a_trace_which_repeats() -> None:
    pipe = TracePipe(TRACE, begin_ns=100 * MS)
    leaves_ms = [pipe.departure_ns(100 * MS, 1504) / MS - 100 for _ in range(9)]
    assert leaves_ms == [1, 2, 2, 5, 6, 7, 7, 10, 11]


def test_small_messages_share_a_packet_of_a_trace_and_large_ones_take_several() -> None:
    pipe = TracePipe(TRACE, begin_ns=0)
    assert [pipe.departure_ns(0, size) // MS for size in (1000, 504, 1, 3000, 8)] == [1, 1, 2, 2, 5]


def test_what_no_byte_waited_for_is_lost_to_a_trace() -> None:
    pipe = TracePipe(TRACE, begin_ns=0)
    assert pipe.departure_ns(0, 4) == 1 * MS
    assert pipe.departure_ns(MS + 1, 4) == 2 * MS  # the packet at 1 ms had room, and is gone
    assert pipe.departure_ns(2 * MS, 1500) == 2 * MS
    assert pipe.departure_ns(2 * MS + 1, 1) == 5 * MS
    assert pipe.departure_ns(57 * MS + 1, 1) == 60 * MS


def test_until_a_trace_begins_its_pipe_has_the_mean_rate() -> None:
    pipe = TracePipe(TRACE)
    assert pipe.rate_mbit_s == pytest.approx(9.6256)  # 4 packets of 1,504 bytes in 5 ms
    assert pipe.departure_ns(0, 1504) == pytest.approx(1.25 * MS, abs=1)
    pipe.begin(100 * MS)
    assert pipe.departure_ns(50 * MS, 1504) == pytest.approx(51.25 * MS, abs=1)
    assert pipe.departure_ns(100 * MS, 1504) == 101 * MS


def test_what_comes_behind_another_pipes_backlog_leaves_by_the_trace_and_not_all_at_once() -> None:
    full = Lane(Pipe(0.12032), 0, 0, NO_DRAWS)  # 1,504 bytes in 100 ms
    assert full.carry(0, 1504)[0] == 100 * MS
    full.leave_by(TracePipe(TRACE, begin_ns=0))
    assert [full.carry(50 * MS, 1504)[0] // MS for _ in range(5)] == [100, 101, 102, 102, 105]


def test_what_comes_behind_a_backlog_from_before_a_trace_began_leaves_by_the_trace() -> None:
    pipe = TracePipe(TRACE)
    pipe.begin(10 * MS)
    assert pipe.departure_ns(0, 15_040) == pytest.approx(12.5 * MS, abs=1)  # ten packets at the mean rate
    assert [pipe.departure_ns(10 * MS, 1504) // MS for _ in range(4)] == [15, 16, 17, 17]


def test_delays_of_a_trace_come_in_their_order_from_a_place_of_the_lanes_own() -> None:
    draws = list(itertools.islice(trace_draws([10.0, 20.0, 60.0], 20.0, 7, "bed -> ward", "up"), 6))
    assert sorted(draws[:3]) == [-10.0, 0.0, 40.0]
    assert draws[:3] == draws[3:]
    assert draws[draws.index(-10.0) + 1] == 0.0
    traced = Lane(Pipe(None), 20 * MS, MS, iter(draws))
    arrivals = [traced.carry(n * 1000 * MS, 100)[1] // MS - n * 1000 for n in range(3)]
    assert sorted(arrivals) == [10, 20, 60]


def test_packets_are_lost_by_chance_and_counted() -> None:
    losses = Losses(iter([2, 0, 5]))
    assert [losses.among(0, packets) for packets in (2, 3, 3, 1)] == [(2, 0), (0, 1), (0, 1), (1, 0)]
    assert (losses.packets, losses.lost) == (5, 2)
    drawn = Losses(loss_draws(5.0, 7, "bed -> ward", "up"))
    for _ in range(40_000):
        drawn.among(0, 1)
    assert drawn.lost / drawn.packets == pytest.approx(0.05, abs=0.005)


def test_in_an_outage_all_is_lost_and_does_not_count_as_chance() -> None:
    losses = Losses(loss_draws(0.0, 7))
    losses.outages = Outages([Outage(2.0, 1.0), Outage(10.0, 0.5, every_s=2.0), Outage(5.0, reset=True)], 100 * S)
    silent = [at_s for at_s in range(100, 120) if losses.among(at_s * S, 3) == (0, 3)]
    assert silent == [102, 110, 112, 114, 116, 118]
    assert losses.among(round(102.999 * S), 1) == (0, 1)
    assert losses.among(103 * S, 1) == (1, 0)
    assert losses.lost == 0


def test_outages_begin_in_order_though_some_come_again() -> None:
    coming = begins([Outage(9.0, reset=True), Outage(2.0, 1.0, every_s=4.0), Outage(3.0, 0.5)], 0)
    assert [(at_ns / S, for_ns / S, reset) for at_ns, for_ns, reset in itertools.islice(coming, 5)] == [
        (2.0, 1.0, False),
        (3.0, 0.5, False),
        (6.0, 1.0, False),
        (9.0, 0.0, True),
        (10.0, 1.0, False),
    ]


def test_as_much_may_be_under_way_as_a_trace_of_rates_carries_at_its_best() -> None:
    # 10 packets of 1,504 bytes a ms for 100 ms, over the end of the trace, and one in the 900 ms besides.
    bursty = RateTrace(gaps_ms=(*[1] * 50, 900, *[1] * 50), packets=(*[10] * 50, 1, *[10] * 50))
    pipe = TracePipe(bursty)
    assert pending_bytes_bound((Lane(pipe, 200 * MS, 0, iter(())),)) == 2 * 300 * 15_040
    steady = TracePipe(RateTrace(gaps_ms=(10,), packets=(10,)))
    assert pending_bytes_bound((Lane(steady, 200 * MS, 0, iter(())),)) == 2 * 300 * 1_504
