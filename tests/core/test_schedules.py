"""When samples are due."""

from __future__ import annotations

import numpy as np

from edgebench.core.schedules import open_loop, query_size, within
from edgebench.topology.model import Fixed, Load, MultiStream, Offline, Poisson, Server, SingleStream, Trace


def due(
    load: Load, *, seed: int = 1, device: str = "bed-0", duration_s: float = 10.0, trace_s: list[float] | None = None
) -> list[int]:
    return list(open_loop(load, seed=seed, device=device, workload="w", duration_s=duration_s, trace_s=trace_s or []))


def test_a_fixed_load_is_evenly_spaced_from_a_phase_within_one_period() -> None:
    times = due(Fixed(rate_hz=4.0))
    assert len(times) == 40
    assert 0 <= times[0] < 250_000_000
    assert set(np.diff(times)) <= {249_999_999, 250_000_000, 250_000_001}


def test_fixed_loads_of_two_devices_have_different_phases() -> None:
    assert due(Fixed(rate_hz=1.0))[0] != due(Fixed(rate_hz=1.0), device="bed-1")[0]


def test_a_poisson_load_has_exponential_gaps() -> None:
    times = due(Poisson(rate_hz=50.0), duration_s=400.0)
    gaps_s = np.diff(times) / 1e9
    # 20,000 expected, standard deviation 141; the mean and the standard deviation of exponential gaps are equal.
    assert abs(len(times) - 20_000) < 4 * 141
    assert abs(gaps_s.mean() - 0.02) < 0.0006
    assert abs(gaps_s.std() - 0.02) < 0.001
    assert times == sorted(times)
    assert times[-1] < 400e9


def test_one_seed_gives_one_schedule_and_another_another() -> None:
    assert due(Poisson(rate_hz=5.0)) == due(Poisson(rate_hz=5.0))
    assert due(Poisson(rate_hz=5.0)) != due(Poisson(rate_hz=5.0), seed=2)
    assert due(Poisson(rate_hz=5.0)) != due(Poisson(rate_hz=5.0), device="bed-1")


def test_a_server_load_arrives_like_a_poisson_load() -> None:
    assert due(Server(rate_hz=5.0, p99_ms=10.0)) == due(Poisson(rate_hz=5.0))


def test_a_trace_is_played_up_to_the_end_of_the_run() -> None:
    assert due(Trace(file="t.txt"), trace_s=[0.0, 0.5, 9.75, 10.0, 12.0]) == [0, 500_000_000, 9_750_000_000]


def test_an_offline_load_is_due_at_once() -> None:
    assert due(Offline(samples=3)) == [0, 0, 0]


def test_closed_loops_have_query_sizes_and_no_schedule() -> None:
    assert (query_size(SingleStream()), query_size(MultiStream()), query_size(MultiStream(samples=3))) == (1, 8, 3)
    assert query_size(Poisson(rate_hz=1.0)) is None
    assert due(SingleStream()) == due(MultiStream()) == []


def test_of_a_device_that_comes_and_goes_only_those_times_are_left_at_which_it_is_there() -> None:
    spans = [(2, 4), (7, 8), (20, 30)]
    assert list(within(iter([0, 1, 2, 3, 3, 4, 5, 7, 8, 25, 40]), spans)) == [2, 3, 3, 7, 25]
    assert list(within(iter([0, 1]), [])) == []
