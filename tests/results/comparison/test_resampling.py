"""Intervals: by hand where they can be worked out, else by how often they hold what is true."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from edgebench.results import stats
from edgebench.results.comparison.resampling import Blocks, block_length, middle, of_intervals, of_runs
from edgebench.seeds import rng_for


def autoregressive(name: str, n: int, memory: float) -> NDArray[np.float64]:
    """A stationary series of mean 0 in which each value keeps so much of the one before."""
    shocks = rng_for(1, "series", name).normal(size=n + 100)
    for place in range(1, n + 100):
        shocks[place] += memory * shocks[place - 1]
    return shocks[100:]


def test_what_does_not_hang_together_has_short_blocks_and_what_does_has_long_ones() -> None:
    lengths = {
        memory: np.mean([block_length(autoregressive(f"{memory}-{number}", 400, memory)) for number in range(20)])
        for memory in (0.0, 0.5, 0.9)
    }
    assert lengths[0.0] < 4 < lengths[0.5] < lengths[0.9]
    # The best length for such a series is (6 ρ² / (1 - ρ²)²)^(1/3) n^(1/3): 10.2 here.
    assert lengths[0.5] == pytest.approx((6 * 0.25 / 0.5625) ** (1 / 3) * 400 ** (1 / 3), rel=0.35)


def test_a_constant_series_has_blocks_of_one() -> None:
    assert block_length(np.full(50, 3.0)) == 1


def test_each_resample_is_as_long_as_the_run_and_made_of_whole_blocks() -> None:
    blocks = Blocks(10, 5, rng_for(1, "blocks"), resamples=50)
    assert (blocks.times.sum(axis=1) == 10).all()
    steps = [np.flatnonzero(np.diff(np.append(row, row[0]))) for row in blocks.times]
    assert max(map(len, steps)) <= 4  # two blocks: at most four ends


def test_blocks_as_long_as_the_run_give_its_own_figures_each_time() -> None:
    values = rng_for(2, "values").integers(1, 60, 300)
    slots = np.repeat(np.arange(10), 30)
    counts = np.zeros((10, 60), np.float32)
    np.add.at(counts, (slots, values), 1)
    blocks = Blocks(10, 10, rng_for(2, "blocks"), resamples=7)
    shares = (0.5, 0.9, 0.99)
    found = blocks.percentiles(counts, np.arange(60.0), shares)
    assert found.tolist() == [list(stats.percentiles(values, shares))] * 7
    sums = np.bincount(slots, weights=values).astype(np.float64)
    assert blocks.ratio(sums, np.full(10, 30.0)) == pytest.approx(np.full(7, values.mean()))


def test_a_resample_of_slots_without_anything_has_no_percentiles() -> None:
    counts = np.zeros((10, 3), np.float32)
    counts[0, 1] = 4
    blocks = Blocks(10, 5, rng_for(3, "blocks"), resamples=50)
    found = blocks.percentiles(counts, np.array([1.0, 2.0, 3.0]), (0.5, 0.99))
    drew = blocks.times[:, 0] > 0
    assert 0 < drew.sum() < 50
    assert (found[drew] == 2).all()
    assert np.isnan(found[~drew]).all()


def test_blocks_hold_the_truth_where_single_values_would_not() -> None:
    """Of 200 series whose mean is 0, intervals are to hold it 95 times of 100; drawn one by one, they would 57."""

    def held(block: int | None) -> float:
        found = 0
        for number in range(200):
            series = autoregressive(f"held-{number}", 100, 0.7)
            length = block or block_length(series)
            blocks = Blocks(100, length, rng_for(number, "held"), resamples=300)
            interval = middle(blocks.ratio(series, np.ones(100)), 100 / length)
            assert interval is not None
            found += interval[0] <= 0 <= interval[1]
        return found / 200

    assert held(1) < 0.67
    assert 0.85 < held(None) <= 1


def test_an_interval_of_runs_is_welchs() -> None:
    # Means 11 and 15, variances 1 and 4 of 3 and 3 runs: s² = 5/3, 2.941 degrees of freedom, t = 3.2166.
    low, high = of_runs([10, 11, 12], [13, 15, 17]) or (0, 0)
    assert ((low + high) / 2, (high - low) / 2) == pytest.approx((4, 3.2166 * (5 / 3) ** 0.5), rel=1e-3)


def test_one_run_beside_several_is_taken_to_spread_as_they_do() -> None:
    # s² = 1 · (1/3 + 1), 2 degrees of freedom, t = 4.3027.
    low, high = of_runs([10, 11, 12], [15]) or (0, 0)
    assert ((low + high) / 2, (high - low) / 2) == pytest.approx((4, 4.3027 * (4 / 3) ** 0.5), rel=1e-4)
    assert of_runs([10], [15]) is None
    assert of_runs([7, 7], [9, 9, 9]) == (2, 2)


def test_the_interval_of_a_difference_of_intervals_is_worked_out_by_hand() -> None:
    assert of_intervals(0.8, (0.77, 0.84), 0.9, (0.87, 0.94)) == pytest.approx((0.1 - 0.05, 0.1 + 0.05))
