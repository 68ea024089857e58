"""What TCP does where packets get lost, against times worked out by hand. The lanes take 20 ms each way, and have no
rate, unless a test says otherwise; a packet is 1,448 bytes."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator

import pytest

from edgebench.core.links import Lane, Losses, Outages, Pipe, loss_draws
from edgebench.core.tcp import TcpFlow, arrivals_ns, connected_ns
from edgebench.core.tcp_receiver import PACKET_BYTES, Receiver, Run
from edgebench.topology.link_model import Outage

MS = 1_000_000
S = 1_000 * MS


def lane(losses: Iterable[int] | None = None, rate: float | None = None, latency_ms: int = 20) -> Lane:
    """losses: how many packets pass before each that is lost; all that come after the last of them pass."""
    made = Lane(Pipe(rate), latency_ms * MS, 0, iter(()))
    if losses is not None:
        made.losses = Losses(itertools.chain(losses, itertools.repeat(1 << 60)))
    return made


def arrive_ms(offers: Iterable[tuple[float, int]], *lanes: Lane) -> list[float]:
    """When the last byte of each offer (ms, bytes) arrives, in ms."""
    flow = TcpFlow(lanes, (lane(latency_ms=sum(each.latency_ns for each in lanes) // MS),), 0)
    return [round(at_ns / MS, 3) for at_ns in arrivals_ns(flow, [(round(at * MS), size) for at, size in offers])]


def test_what_is_not_lost_takes_the_latency() -> None:
    assert arrive_ms([(0, 200), (50, 200)], lane([])) == [20, 70]


def test_it_takes_the_rate_of_the_pipe_besides() -> None:
    assert arrive_ms([(0, 1000), (0, 1000)], lane([], rate=8.0)) == [21, 22]


def test_a_lone_packet_is_sent_again_after_a_round_trip_and_200_ms() -> None:
    assert arrive_ms([(0, 200)], lane([0])) == [260]


def test_the_next_message_shows_that_one_was_lost() -> None:
    # The one at 50 ms arrives at 70; that is known at 90, and the first, sent again, arrives at 110.
    assert arrive_ms([(0, 200), (50, 200)], lane([0])) == [110, 110]


def test_messages_close_behind_are_given_a_quarter_of_a_round_trip_to_be_merely_late() -> None:
    # The second is acknowledged at 42 ms; the first is lost at 40 + 10 ms, and timers take 2 ms.
    assert arrive_ms([(0, 200), (2, 200)], lane([0])) == [72, 72]


def test_three_packets_behind_it_show_it_after_one_round_trip() -> None:
    assert arrive_ms([(0, 200), (1, 200), (2, 200), (3, 200)], lane([0])) == [63, 63, 63, 63]


def test_a_tail_that_is_lost_is_probed_after_two_round_trips() -> None:
    # Of two packets the second is lost: what is acknowledged at 40 ms sets the probe to 40 + 2 · 40 + 200 ms, but the
    # timeout, since the second was sent, is due before.
    assert arrive_ms([(0, 2 * PACKET_BYTES)], lane([1])) == [300]
    # Both of two are lost: probed after 2 · 40 + 2 ms; its acknowledgement, at 122 ms, shows the first to be lost.
    assert arrive_ms([(0, 2 * PACKET_BYTES)], lane([0, 0])) == [142]


def test_each_further_timeout_is_twice_as_long() -> None:
    # A probe at 240 ms, then timeouts of 240 and 480 ms.
    assert arrive_ms([(0, 200)], lane([0, 0, 0])) == [980]


def test_the_window_begins_at_ten_packets_and_doubles() -> None:
    sizes = [(0.0, PACKET_BYTES)] * 70
    rounds = [(at_ms, len(list(group))) for at_ms, group in itertools.groupby(arrive_ms(sizes, lane([])))]
    assert rounds == [(20, 10), (60, 20), (100, 40)]


def test_a_loss_shrinks_the_window_to_seven_tenths() -> None:
    sizes = [(0.0, PACKET_BYTES)] * 400
    flow = TcpFlow((lane([40]),), (lane(),), 0)
    arrivals = arrivals_ns(flow, [(round(at), size) for at, size in sizes])
    assert sorted(arrivals) == arrivals
    # 10, 20 and 10 of the 40 packets of the third round arrive before the lost one, the rest of that round with it.
    assert [at_ns // MS for at_ns in (arrivals[9], arrivals[29], arrivals[39], arrivals[40])] == [20, 60, 100, 140]


def rounds_of(back: Lane, packets: int) -> list[tuple[float, int]]:
    """How many of so many packets arrive when, in ms, where acknowledgements go back by a lane."""
    flow = TcpFlow((lane([]),), (back,), 0)
    arrivals = arrivals_ns(flow, [(0, PACKET_BYTES)] * packets)
    return [(at_ns / MS, len(list(group))) for at_ns, group in itertools.groupby(arrivals)]


def test_what_a_lost_acknowledgement_tells_the_next_one_tells() -> None:
    # The first sixteen packets are each acknowledged at once, so ten acknowledgements come back of the first ten.
    assert rounds_of(lane([0]), 30) == [(20, 10), (60, 20)]
    assert rounds_of(lane([3]), 30) == [(20, 10), (60, 20)]


def test_of_packets_that_arrive_together_the_sender_hears_up_to_the_last_acknowledgement_that_is_not_lost() -> None:
    # Nine of ten are acknowledged at 40 ms: the window is 19, of which one is taken.
    assert rounds_of(lane([9]), 28) == [(20, 10), (60, 18)]


def test_a_full_packet_that_is_alone_waits_to_be_acknowledged_but_for_the_first_and_those_after_a_pause() -> None:
    receiver = Receiver(0, 240 * MS)
    first = Run(0, 16 * PACKET_BYTES, 16, 0, again=False)
    assert receiver.take(first, 20 * MS) == (range(1, 17), False)
    assert receiver.tell(16, 16) == [first]
    places = itertools.count(16)

    def one(at_ms: int) -> int:
        place = next(places)
        acks, _ = receiver.take(Run(place * PACKET_BYTES, (place + 1) * PACKET_BYTES, 1, 0, again=False), at_ms * MS)
        if acks:
            receiver.tell(acks[-1], acks[-1])
        return len(acks)

    assert [one(60), one(100), one(140), one(380), one(621), one(661)] == [0, 1, 0, 1, 1, 1]


def test_a_lane_that_loses_on_the_second_of_two_loses_for_both() -> None:
    assert arrive_ms([(0, 200), (100, 200)], lane(latency_ms=5), lane([0], latency_ms=15)) == [160, 160]


def test_an_outage_delays_what_was_sent_until_the_first_try_after_it() -> None:
    silent = lane([])
    assert silent.losses is not None
    silent.losses.outages = Outages([Outage(1.0, 2.0)], 0)
    # Sent at 1 s, and again after 240 ms, then 240, 480, 960 and 1,920 ms more.
    assert arrive_ms([(0, 200), (1000, 200)], silent) == [20, 1000 + 240 + 240 + 480 + 960 + 1920 + 20]


def test_all_bytes_arrive_in_order_however_many_are_lost_and_the_end_behind_them() -> None:
    flow = TcpFlow((lane(loss_draws(30.0, 1)),), (lane(),), 0)
    flow.offer(0, 200_000)
    flow.end(0)
    arrived = [0]
    while (due_ns := flow.due_ns) is not None and not flow.ended:
        flow.advance(due_ns)
        arrived.append(flow.arrived)
    assert flow.ended
    assert arrived == sorted(arrived)
    assert arrived[-1] == 200_000


@pytest.mark.parametrize("seed", range(20))
def test_all_bytes_arrive_whatever_is_lost_acknowledgements_too(seed: int) -> None:
    ways = (lane(loss_draws(20.0, seed, way), rate=10.0) for way in ("up", "down"))
    flow = TcpFlow((next(ways),), (next(ways),), 0)
    offers = [(turn * 100 * MS, size) for turn, size in enumerate([200, 1448, 100_000, 10, 30_000])]
    arrivals = arrivals_ns(flow, offers)
    assert arrivals == sorted(arrivals)
    flow.end(arrivals[-1])
    while not flow.ended:
        assert flow.due_ns is not None
        assert flow.due_ns < 600 * S
        flow.advance(flow.due_ns)


@pytest.mark.parametrize(("loss_percent", "within"), [(1.0, 0.15), (5.0, 0.35)])
def test_the_goodput_is_about_what_the_square_root_law_says(loss_percent: float, within: float) -> None:
    # Mathis et al. 1997: packet / round trip · √(1.5 / p). It leaves out timeouts, and acknowledgements that wait.
    mbit_s = []
    for seed in range(10):
        flow = TcpFlow((lane(loss_draws(loss_percent, seed)),), (lane(),), 0)
        flow.offer(0, 1 << 40)
        flow.advance(30 * S)
        mbit_s.append(flow.arrived * 8 / 1e6 / 30)
    expected = PACKET_BYTES * 8 / 1e6 / 0.04 * math.sqrt(1.5 / (loss_percent / 100))
    assert sum(mbit_s) / len(mbit_s) == pytest.approx(expected, rel=within)


def test_a_sender_is_held_back_where_a_queue_is_as_long_as_a_routers() -> None:
    slow = lane([], rate=8.0)  # 1,000 bytes a ms
    flow = TcpFlow((slow,), (lane(),), 0)
    flow.offer(0, 10_000_000)
    longest_ms = 0.0
    while (due_ns := flow.due_ns) is not None and due_ns < 3 * S:
        flow.advance(due_ns)
        longest_ms = max(longest_ms, (slow.pipe.free_ns - due_ns) / MS)
    assert 100 < longest_ms < 110
    assert flow.arrived == pytest.approx(2_900_000, rel=0.02)


def test_a_connection_takes_a_round_trip_and_a_second_for_each_try_that_is_lost() -> None:
    assert connected_ns((lane(),), (lane(),), 5 * S) == 5 * S + 40 * MS
    assert connected_ns((lane([0]),), (lane([0]),), 5 * S) == 7 * S + 40 * MS


def test_the_same_seed_gives_the_same_arrivals() -> None:
    def arrivals() -> Iterator[int]:
        flow = TcpFlow((lane(loss_draws(10.0, 3)),), (lane(),), 0)
        yield from arrivals_ns(flow, [(n * 10 * MS, 500) for n in range(500)])

    assert list(arrivals()) == list(arrivals())
