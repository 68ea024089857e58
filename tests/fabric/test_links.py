"""Measuring the links: the estimators by hand, and the whole thing through a real relay."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from edgebench.clock import sleep_s
from edgebench.errors import FabricError
from edgebench.fabric import links, probing
from edgebench.fabric.links import Relay
from edgebench.fabric.probing import delays_and_spread, probe, sample, slopes_mbit_s, undisturbed, waves
from edgebench.topology.deployment import LinkPlan

MS = 1_000_000


def beds(count: int) -> list[LinkPlan]:
    return [LinkPlan(f"bed-{n}", f"ward-{n % 2}", 2.0, 0.5, 40.0, 40.0, f"bed-{n}") for n in range(count)]


def wards(count: int) -> list[LinkPlan]:
    return [LinkPlan(f"ward-{n}", "cloud", 20.0, 2.0, 20.0, 50.0, "uplink") for n in range(count)]


def test_two_links_of_each_shape_are_measured() -> None:
    names = [plan.name for plan in sample([*beds(1000), *wards(2)])]
    assert names == ["bed-0 -> ward-0", "bed-1 -> ward-1", "ward-0 -> cloud", "ward-1 -> cloud"]


def test_links_of_two_pipes_are_preferred() -> None:
    links = [LinkPlan(f"d-{n}", "e", 1.0, 0.0, 5.0, 5.0, f"pipe-{n // 3}") for n in range(6)]
    assert [plan.child for plan in sample(links)] == ["d-0", "d-3"]


def test_rates_of_one_pipe_are_measured_one_after_the_other() -> None:
    groups = [[plan.child for plan in group] for group in waves([*beds(2), *wards(2)])]
    assert groups == [["bed-0", "bed-1", "ward-0"], ["ward-1"]]


def test_links_without_a_rate_are_not_flooded() -> None:
    assert waves([LinkPlan("d", "e", 1.0, 0.0, None, None, "p")]) == []


def test_no_more_is_measured_at_once_than_a_machine_can_do() -> None:
    links = [LinkPlan(f"d-{n}", "e", 1.0, 0.0, 80.0, 80.0, f"p-{n}") for n in range(3)]
    assert [len(group) for group in waves(links)] == [1, 1, 1]


def test_a_flight_during_which_the_machine_stood_still_does_not_count() -> None:
    flights = [(0, 20), (10, 30), (40, 60)]
    assert undisturbed(flights, [(25, 35)]) == [(0, 20), (40, 60)]


def test_delays_are_percentiles_less_the_stamps_own_time_and_their_spread_is_that_of_the_quartiles() -> None:
    flights = [(0, ms * MS) for ms in (18, 19, 20, 21, 22)]
    delays_ms, spread_ms = delays_and_spread(flights, own_ns=0.5 * MS)
    assert delays_ms == pytest.approx((19.5, 21.1, 21.46))
    assert spread_ms == 2.0


def test_the_rate_is_the_slope_after_the_first_read() -> None:
    points = [(n * MS, 5000 + n * 1000) for n in range(11)]  # 1,000 bytes a ms
    assert slopes_mbit_s(points, []) == pytest.approx([8.0] * 6)


def test_what_comes_in_a_rush_after_a_stall_is_left_out() -> None:
    points = [(n * MS, n * 1000) for n in range(100)]
    # From 20 to 30 ms nothing was read; the backlog may come until 45 ms. Of 45 pairs, 14 start between 31 and 44 ms.
    points = [point for point in points if not 20 * MS < point[0] <= 30 * MS]
    points[21] = (31 * MS, 20_500)
    assert slopes_mbit_s(points, [(20 * MS, 30 * MS)]) == pytest.approx([8.0] * 31)


def test_pairs_around_a_stall_in_which_the_link_ran_empty_are_left_out() -> None:
    points = [(n * MS, n * 1000) for n in range(40)]
    assert slopes_mbit_s(points, [(-100 * MS, -90 * MS)]) == pytest.approx([8.0] * 20)
    assert slopes_mbit_s(points, [(10 * MS, 80 * MS)]) == []


def test_a_relay_that_does_not_answer_in_time_is_ended_and_its_late_answer_is_nobodys(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Relay.start(beds(1), [], seed=7, log_dir=tmp_path) as relay:
        relay._ports["of a route"] = 1  # as where any route is listened for
        monkeypatch.setattr(links, "_ANSWER_S", 0.3)
        os.kill(relay.process.pid, signal.SIGSTOP)
        with pytest.raises(FabricError, match="no answer"):
            relay.counters()
        assert relay.process.has_ended
        with pytest.raises(FabricError, match="gone"):
            relay.counters()
        assert relay.stop() is None


def test_links_measure_as_what_was_asked_for(tmp_path: Path) -> None:
    far = LinkPlan("far", "cloud", 80.0, 0.0, None, None, "far", loss_percent=50.0)  # which is not probed
    slow = LinkPlan("slow", "cloud", 5.0, 0.0, 0.5, 1.0, "slow")
    shaped = [*beds(8), *wards(2), far, slow]
    with Relay.start(shaped, [], seed=7, log_dir=tmp_path) as relay:
        measured = probe(relay)
        assert all(counted.up_bytes == 0 for counted in relay.counters().values())
    assert len(measured) == 6
    for plan in shaped:
        got = measured.get(plan.name)
        if got is None:
            continue
        # Nothing can be faster than the least jitter; how much slower it may be, and of how few exchanges this is the
        # median, depends on how busy the machine is, so accuracy is a matter of benchmarks/links.py.
        assert min(got.up_delays_ms[0], got.down_delays_ms[0]) >= plan.latency_ms - plan.jitter_ms
        assert sorted(got.up_delays_ms) == list(got.up_delays_ms)
        for rate, asked in ((got.up_mbit_s, plan.up_mbit_s), (got.down_mbit_s, plan.down_mbit_s)):
            assert (rate is None) == (asked is None)
            assert rate is None or rate > 0
    near = measured["bed-0 -> ward-0"]
    assert near.up_delays_ms[0] < measured[far.name].up_delays_ms[0]
    assert near.down_delays_ms[0] < measured[far.name].down_delays_ms[0]
    slow_up, near_up = measured[slow.name].up_mbit_s, near.up_mbit_s
    assert slow_up is not None
    assert near_up is not None
    assert slow_up < near_up


def test_what_is_sent_to_measure_a_rate_may_all_come_while_the_process_stands_still(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = probing._End._read

    def read_late(end: probing._End) -> None:
        if end.flood_awaited > 0 and not end.points:
            sleep_s(0.5)  # it takes 0.3 s
        read(end)

    monkeypatch.setattr(probing._End, "_read", read_late)
    monkeypatch.setattr(probing, "_TRIES", 1)
    slow = LinkPlan("slow", "cloud", 5.0, 0.0, 0.5, 0.5, "slow")
    with Relay.start([slow], [], seed=7, log_dir=tmp_path) as relay:
        measured = probe(relay)[slow.name]
    assert not measured.steady
    assert measured.up_mbit_s is not None
    assert measured.up_mbit_s > 0
