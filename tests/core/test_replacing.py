"""When an edge moves a workload to the cloud, or back: in virtual time, with times worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from edgebench.clock import NS_PER_MS, NS_PER_S
from edgebench.core.replacing import OnlinePlacement, Replaced, Takes, Trial, batched_wait_ns
from edgebench.seeds import rng_for
from edgebench.topology.deployment import OnlinePlan
from edgebench.topology.model import Tier
from tests.core.ward import ms

QUICK = Takes(ms(0.001), ms(0.001), 1)


def a_second(rate_hz: float) -> float:
    return rate_hz / NS_PER_S


class Site:
    """An edge with a sample every `every_ms`."""

    def __init__(self, begins: Tier = "cloud", every_ms: float = 50.0) -> None:
        plan = OnlinePlan(begins, gain=0.2, hold_s=1.0)
        self.placement = OnlinePlacement("w", "ward", plan, rng_for(7, "online", "ward"), 0)
        self.now_ms = 1_000.0
        self.every_ms = every_ms
        self.trials = self.tried_ns = 0
        self.moves: list[Replaced] = []

    def goes_on(
        self,
        for_s: float,
        *,
        edge_ms: float | None,
        cloud_ms: float | None,
        takes: Takes = QUICK,
        crossing_ms: float = 0.0,
    ) -> None:
        """A sample takes so long by the edge, and by the cloud; None: it is never decided there."""
        until_ms = self.now_ms + 1e3 * for_s
        while self.now_ms < until_ms:
            at_ns = ms(self.now_ms)
            here_ms, there_ms = (edge_ms, cloud_ms) if self.placement.tier == "edge" else (cloud_ms, edge_ms)
            if self.placement.took_in(at_ns):
                self.trials += 1
                self.tried_ns = at_ns
                if there_ms is not None:
                    trial = Trial(ms(there_ms), ms(crossing_ms), takes)
                    moved = self.placement.tried(at_ns, trial, at_ns + ms(there_ms))
                    self.moves += [] if moved is None else [moved]
            if here_ms is not None:
                self.placement.done(at_ns, at_ns + ms(here_ms))
            self.now_ms += self.every_ms


def test_a_place_that_stays_better_for_as_long_as_is_held_to_is_moved_to_once() -> None:
    site = Site()
    site.goes_on(5.0, edge_ms=10.0, cloud_ms=100.0)
    (moved,) = site.moves
    assert (moved.workload, moved.site, moved.left, moved.to) == ("w", "ward", "cloud", "edge")
    assert site.placement.tier == "edge"
    assert moved.measured_ms == pytest.approx(100.0, abs=0.1)
    assert moved.predicted_ms == pytest.approx(10.0, abs=0.1)
    assert moved.rate_hz == pytest.approx(20.0, rel=0.1)
    # 1 to 2 s from the first trial, of which there is one each 250 ms.
    assert 1_000.0 <= moved.at_ns / NS_PER_MS - 1_000.0 <= 2_500.0
    assert moved.looks >= 4


def test_what_would_not_gain_enough_stays_where_it_is() -> None:
    site = Site()
    site.goes_on(10.0, edge_ms=85.0, cloud_ms=100.0)
    assert not site.moves
    site.goes_on(5.0, edge_ms=75.0, cloud_ms=100.0)
    assert len(site.moves) == 1


def test_a_single_trial_that_says_otherwise_begins_the_wait_anew() -> None:
    site = Site()
    for _ in range(20):
        site.goes_on(0.75, edge_ms=10.0, cloud_ms=100.0)
        site.goes_on(0.25, edge_ms=99.0, cloud_ms=100.0)
    assert not site.moves


def test_it_comes_back_once_the_link_is_good_again() -> None:
    site = Site()
    site.goes_on(10.0, edge_ms=40.0, cloud_ms=300.0)
    site.goes_on(5.0, edge_ms=40.0, cloud_ms=12.0)
    assert [(each.left, each.to) for each in site.moves] == [("cloud", "edge"), ("edge", "cloud")]
    assert site.moves[1].at_ns / NS_PER_S >= 11.0


def test_a_place_that_no_longer_answers_is_left_by_the_age_of_what_waits_there() -> None:
    site = Site()
    site.goes_on(3.0, edge_ms=60.0, cloud_ms=20.0)
    assert not site.moves
    site.goes_on(3.0, edge_ms=60.0, cloud_ms=None)
    (moved,) = site.moves
    assert moved.measured_ms > 100.0


def test_a_place_that_answers_no_trial_is_not_moved_to() -> None:
    site = Site(begins="edge")
    site.goes_on(24.0, edge_ms=500.0, cloud_ms=None)
    assert not site.moves
    # One that is not answered for four times as long as is held to is lost; the next one is tried.
    assert site.trials == 6
    site.placement.forget_trial()
    site.goes_on(0.3, edge_ms=500.0, cloud_ms=None)
    assert site.trials == 7


@pytest.mark.parametrize(("took_s", "trials"), [(1.0, 6), (4.0, 3), (100.0, 3)])
def test_an_answer_that_comes_too_late_is_waited_for_the_next_time_but_not_forever(took_s: float, trials: int) -> None:
    site = Site(begins="edge")
    site.placement.answered_late(ms(1e3 * took_s))
    site.goes_on(23.0, edge_ms=500.0, cloud_ms=None)  # twice as long, 10 s at the most
    assert site.trials == trials


def test_a_place_that_lets_a_trial_go_is_asked_again_soon_and_its_earlier_answers_no_longer_count() -> None:
    site = Site()
    for _ in range(20):
        site.goes_on(0.75, edge_ms=10.0, cloud_ms=100.0)
        trials = site.trials
        site.goes_on(0.25, edge_ms=None, cloud_ms=100.0)
        assert site.trials == trials + 1
        site.placement.let_go(site.tried_ns)
    assert not site.moves
    site.placement.let_go(site.tried_ns - 1)  # of none that is under way
    site.goes_on(2.5, edge_ms=10.0, cloud_ms=100.0)
    assert len(site.moves) == 1


def test_what_an_earlier_life_had_taken_in_says_nothing_of_this_one() -> None:
    site = Site(begins="edge")
    plan = OnlinePlan("edge", gain=0.2, hold_s=1.0)
    site.placement = OnlinePlacement("w", "ward", plan, rng_for(7, "online", "ward"), since_ns=ms(site.now_ms))
    for _ in range(100):
        site.placement.done(ms(500.0), ms(site.now_ms))
        site.goes_on(0.05, edge_ms=10.0, cloud_ms=9.0)
    assert not site.moves


def test_the_rate_after_a_pause_is_that_of_now() -> None:
    site = Site()
    site.goes_on(2.0, edge_ms=10.0, cloud_ms=10.0)
    site.now_ms += 3_600e3
    site.goes_on(3.0, edge_ms=10.0, cloud_ms=100.0)
    (moved,) = site.moves
    assert moved.rate_hz == pytest.approx(20.0, rel=0.1)


def test_an_edge_that_could_not_keep_up_is_not_moved_to_though_a_single_sample_would_be_quick_there() -> None:
    site = Site(every_ms=10.0)
    slow = Takes(ms(12), ms(12), 1)  # 100 samples a second, and 12 ms for each
    site.goes_on(5.0, edge_ms=12.0, cloud_ms=200.0, takes=slow)
    assert not site.moves
    site.every_ms = 40.0
    site.goes_on(2.0, edge_ms=12.0, cloud_ms=12.0, takes=slow)
    site.goes_on(5.0, edge_ms=12.0, cloud_ms=200.0, takes=slow)
    (moved,) = site.moves
    # 25 a second keep it busy for 0.3: 0.3 * 12 / (2 * 0.7) ms are waited.
    assert moved.predicted_ms == pytest.approx(12.0 + 2.571, abs=0.2)


def test_a_link_that_could_not_carry_them_is_not_crossed() -> None:
    site = Site(begins="edge")
    site.goes_on(5.0, edge_ms=500.0, cloud_ms=80.0, crossing_ms=55.0)  # 20 samples a second: 1.1
    assert not site.moves
    site.goes_on(5.0, edge_ms=500.0, cloud_ms=80.0, crossing_ms=5.0)
    assert [each.to for each in site.moves] == ["cloud"]


def test_decisions_of_the_old_place_say_nothing_of_the_new_one() -> None:
    site = Site()
    site.goes_on(5.0, edge_ms=10.0, cloud_ms=100.0)
    moved_ns = site.moves[0].at_ns
    for late_ms in range(100):
        site.placement.done(moved_ns - 1, moved_ns + ms(1_000 + late_ms))
    site.goes_on(3.0, edge_ms=10.0, cloud_ms=100.0)
    assert len(site.moves) == 1


def test_a_trial_that_was_begun_before_the_move_says_nothing_after_it() -> None:
    site = Site()
    site.goes_on(5.0, edge_ms=10.0, cloud_ms=100.0)
    assert site.placement.tried(site.moves[0].at_ns - ms(1), Trial(1, 0, QUICK), ms(site.now_ms)) is None


def test_at_most_every_fourth_sample_is_tried() -> None:
    site = Site(begins="edge", every_ms=500.0)
    site.goes_on(100.0, edge_ms=20.0, cloud_ms=20.0)
    assert site.trials == 50


def test_sites_that_see_the_same_do_not_all_move_at_once() -> None:
    at_ns = set()
    for number in range(8):
        site = Site(every_ms=10.0)
        site.placement = OnlinePlacement("w", f"ward-{number}", OnlinePlan("cloud", 0.2, 1.0), rng_for(7, number), 0)
        site.goes_on(5.0, edge_ms=10.0, cloud_ms=100.0)
        at_ns.add(site.moves[0].at_ns)
    assert len(at_ns) >= 3


def test_the_wait_for_a_server_without_batches_is_that_of_a_queue_with_equal_service_times() -> None:
    half = Takes(ms(20), ms(20), 1)
    assert batched_wait_ns(a_second(25.0), half) == pytest.approx(ms(10))
    assert batched_wait_ns(a_second(50.0), half) == math.inf
    assert batched_wait_ns(0.0, half) == 0.0


def test_batches_carry_more_than_single_samples_do() -> None:
    # A batch of n takes 16 + 4 n ms. At 100 samples a second: 16 / (1 - 0.4) ms, which is waited for half as long, and
    # 4 / 2 * (0.4 + 2) / (1 - 0.4²) for the others in the batch.
    takes = Takes(ms(20), ms((16 + 4 * 8) / 8), 8)
    assert batched_wait_ns(a_second(100.0), takes) == pytest.approx(ms(1.5 * 16 / 0.6 + 4.8 / 0.84 - 20), rel=1e-6)
    # 8 in each batch of 48 ms are 167 a second, and no more.
    assert batched_wait_ns(a_second(170.0), takes) == math.inf


LINEAR = Takes(ms(20), ms(20), 8)


@pytest.mark.parametrize(
    ("rate_hz", "fixed_ms", "more_ms"), [(25.0, 0, 20), (45.0, 0, 20), (40.0, 5, 15), (49.0, 16, 4), (100.0, 16, 4)]
)
def test_the_wait_for_batches_is_that_of_a_server_with_such_batches(
    rate_hz: float, fixed_ms: float, more_ms: float
) -> None:
    takes = Takes(ms(fixed_ms + more_ms), ms((fixed_ms + 8 * more_ms) / 8), 8)
    took_ns = takes.single_ns + ms(simulated_wait_ms(rate_hz, fixed_ms, more_ms))
    assert takes.single_ns + batched_wait_ns(a_second(rate_hz), takes) == pytest.approx(took_ns, rel=0.12)


def simulated_wait_ms(rate_hz: float, fixed_ms: float, more_ms: float, samples: int = 40_000) -> float:
    """What samples take longer than one alone, at a server that takes 8 of those that are there."""
    came_ms = np.cumsum(rng_for(7, "came").exponential(1e3 / rate_hz, samples)).tolist()
    free_ms = waited_ms = 0.0
    at = 0
    while at < samples:
        begun_ms = max(free_ms, came_ms[at])
        batch = [came for came in came_ms[at : at + 8] if came <= begun_ms]
        free_ms = begun_ms + fixed_ms + more_ms * len(batch)
        waited_ms += sum(free_ms - came for came in batch)
        at += len(batch)
    return waited_ms / samples - fixed_ms - more_ms


@pytest.mark.parametrize("load", [0.5, 0.9, 0.99])
def test_batches_that_gain_nothing_are_waited_for_at_least_as_long_as_one_by_one(load: float) -> None:
    alone_ns = batched_wait_ns(a_second(50.0 * load), Takes(ms(20), ms(20), 1))
    assert alone_ns == pytest.approx(ms(20) * load / (2 * (1 - load)))
    assert alone_ns <= batched_wait_ns(a_second(50.0 * load), LINEAR) <= alone_ns + ms(8 * 20 / 2)


def test_batches_that_take_longer_than_their_samples_one_by_one_are_waited_for() -> None:
    worse = Takes(ms(20), ms(25), 8)
    for rate_hz in (1.0, 20.0, 39.9):
        wait_ns = batched_wait_ns(a_second(rate_hz), worse)
        assert batched_wait_ns(a_second(rate_hz), LINEAR) <= wait_ns < math.inf
    assert batched_wait_ns(a_second(40.0), worse) == math.inf


def test_a_batch_that_is_quicker_than_one_sample_was_is_waited_for_as_for_that() -> None:
    # As measured, by chance: whatever has come is done in 20 ms, so one waits for half of the last one's.
    assert batched_wait_ns(a_second(100.0), Takes(ms(20), ms(2), 8)) == pytest.approx(ms(10))
