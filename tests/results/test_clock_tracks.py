"""A machine's clock all through a run: between its comparisons the truth is within the bound, too."""

from __future__ import annotations

import numpy as np
import pytest

from edgebench.clock import NS_PER_MS, NS_PER_S
from edgebench.results.clock_tracks import UNKNOWN_NS, ClockTrack
from edgebench.results.values import Ints
from edgebench.seeds import rng_for
from tests.core.other_clocks import Delay, MachineClock, exchanges, lan, slow, wifi

NETWORKS = [(lan, lan), (wifi, wifi), (slow, lan), (lan, slow)]


def moments(until_s: float = 122.0) -> list[int]:
    """Of the server's clock; some before the first exchange and after the last."""
    return np.linspace(0, until_s * NS_PER_S, 20_000).astype(np.int64).tolist()


def off_ns(track: ClockTrack, machine: MachineClock, at_ns: list[int]) -> tuple[Ints, Ints]:
    """How far what is told is from the truth, and how far it says that it is at most."""
    own_ns = np.array([machine.own_ns(each) for each in at_ns])
    offset_ns, bound_ns = track.at(own_ns)
    return np.abs(np.array(at_ns) - own_ns - offset_ns), bound_ns


@pytest.mark.parametrize(("there", "back"), NETWORKS)
@pytest.mark.parametrize("ppm", [-200.0, 0.0, 200.0])
@pytest.mark.parametrize("every_s", [0.25, 10.0])
def test_the_truth_is_within_the_bound_at_every_moment(there: Delay, back: Delay, ppm: float, every_s: float) -> None:
    machine = MachineClock(ppm=ppm)
    rng = rng_for(7, "track", there.__name__, back.__name__, str(ppm), str(every_s))
    track = ClockTrack(exchanges(machine, rng, there=there, back=back, every_s=every_s))
    found_ns, bound_ns = off_ns(track, machine, moments())
    assert (found_ns <= bound_ns).all()
    assert track.irregularities == []


def test_over_a_cable_the_bound_stays_below_a_fifth_of_a_ms_all_through() -> None:
    machine = MachineClock(ppm=200.0)
    track = ClockTrack(exchanges(machine, rng_for(7, "cable")))
    _, bound_ns = off_ns(track, machine, [each for each in moments() if NS_PER_S < each < 119 * NS_PER_S])
    assert bound_ns.max() < 0.2 * NS_PER_MS


@pytest.mark.parametrize(("there", "back"), NETWORKS)
@pytest.mark.parametrize("by_ms", [-100.0, 100.0, 5_000.0])
def test_a_step_is_within_the_bound_while_it_is_not_known_when_it_was(there: Delay, back: Delay, by_ms: float) -> None:
    machine = MachineClock(ppm=30.0).change(60.0, by_ms=by_ms)
    rng = rng_for(7, "track", "step", there.__name__, back.__name__, str(by_ms))
    track = ClockTrack(exchanges(machine, rng, there=there, back=back))
    off, bound_ns = off_ns(track, machine, moments())
    assert (off <= bound_ns).all()
    assert [each.kind for each in track.irregularities] == ["step"]
    assert np.median(bound_ns) < 20 * NS_PER_MS


@pytest.mark.parametrize("ppm", [-400.0, -100.0, 60.0, 150.0, 400.0])
@pytest.mark.parametrize("network", [lan, wifi])
def test_a_change_of_drift_is_within_the_bound(network: Delay, ppm: float) -> None:
    machine = MachineClock(ppm=10.0).change(60.0, ppm=ppm)
    rng = rng_for(7, "track", "drift", network.__name__, str(ppm))
    track = ClockTrack(exchanges(machine, rng, there=network, back=network))
    found_ns, bound_ns = off_ns(track, machine, moments(119.0))
    assert (found_ns <= bound_ns).all()


def test_both_sides_of_a_moment_tell_more_than_the_one_before() -> None:
    # Two exchanges a minute apart: in the middle neither knows the drift, and each the offset at its end.
    machine = MachineClock(ppm=0.0)
    first, *_, last = exchanges(machine, rng_for(7, "gap"), until_s=62.0)
    both, one = ClockTrack([first, last]), ClockTrack([first])
    _, of_both_ns = off_ns(both, machine, [61 * NS_PER_S])
    _, of_one_ns = off_ns(one, machine, [61 * NS_PER_S])
    assert of_both_ns[0] < of_one_ns[0] / 20


def test_moments_are_brought_from_one_clock_to_the_other_and_back() -> None:
    machine = MachineClock(ppm=200.0)
    track = ClockTrack(exchanges(machine, rng_for(7, "there and back")))
    own_ns = machine.own_ns(40 * NS_PER_S)
    assert track.to_server(own_ns) == pytest.approx(40 * NS_PER_S, abs=0.2 * NS_PER_MS)
    assert track.own_at(track.to_server(own_ns)) == pytest.approx(own_ns, abs=2)
    drift_ppm, bound_ppm = track.drift_ppm(machine.own_ns(10 * NS_PER_S), machine.own_ns(110 * NS_PER_S))
    assert abs(drift_ppm - 200) <= bound_ppm + 0.05 < 5


def test_without_an_exchange_nothing_is_known() -> None:
    offset_ns, bound_ns = ClockTrack([]).at(np.array([5, 6]))
    assert offset_ns.tolist() == [0, 0]
    assert bound_ns.tolist() == [UNKNOWN_NS] * 2
