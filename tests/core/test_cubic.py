"""When slow start is left (HyStart), by hand: round trips take 40 ms."""

from __future__ import annotations

from edgebench.core.cubic import UNLIMITED, Cubic

RTT_S = 0.04


def sender(window: int) -> Cubic:
    """In slow start, at the begin of a round."""
    made = Cubic()
    made.window = window
    made.begin_round(0.0)
    return made


def row(cubic: Cubic, from_s: float, apart_s: float, count: int, rtt_s: float = RTT_S) -> None:
    """Acknowledgements one after the other."""
    for place in range(count):
        cubic.look(from_s + place * apart_s, rtt_s, RTT_S)


def test_acknowledgements_in_a_row_for_half_a_round_trip_end_slow_start() -> None:
    cubic = sender(100)
    row(cubic, 0.001, 0.001, 20)
    assert cubic.threshold == UNLIMITED  # 20 ms; that they are sent together by up to 1 ms counts as well
    row(cubic, 0.021, 0.001, 1)
    assert cubic.threshold == 100


def test_bursts_do_not_end_it_nor_do_small_windows() -> None:
    apart, small = sender(100), sender(15)
    row(apart, 0.003, 0.003, 13)
    row(small, 0.001, 0.001, 39)
    assert apart.threshold == small.threshold == UNLIMITED


def test_round_trips_that_are_an_eighth_longer_end_it_once_eight_have_been_seen() -> None:
    cubic = sender(100)
    row(cubic, 0.0, 0.0, 8, rtt_s=0.0451)
    assert cubic.threshold == UNLIMITED
    row(cubic, 0.0, 0.0, 1, rtt_s=0.0451)
    assert cubic.threshold == 100


def test_it_is_left_so_but_once_until_a_timeout() -> None:
    cubic = sender(100)
    row(cubic, 0.001, 0.001, 21)
    cubic.window = 50
    row(cubic, 0.022, 0.001, 10)
    assert cubic.threshold == 100
    cubic.timed_out(anew=False)
    cubic.window = 20
    cubic.begin_round(0.1)
    row(cubic, 0.101, 0.001, 21)
    assert cubic.threshold == 20
