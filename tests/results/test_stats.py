import numpy as np
import pytest

from edgebench.results.stats import percentiles, samples_needed, upper_bound


def test_a_percentile_is_the_nearest_rank_among_the_values_seen() -> None:
    values = np.array([50, 15, 40, 20, 35])
    # Ranks ceil(5 p): 5 % -> 1st, 30 % -> 2nd, 40 % -> 2nd, 50 % -> 3rd, 100 % -> 5th.
    assert percentiles(values, (0.05, 0.3, 0.4, 0.5, 1.0)) == (15, 20, 20, 35, 50)


def test_a_rank_that_is_whole_is_not_rounded_up() -> None:
    assert percentiles(np.arange(1, 301), (0.99,)) == (297,)


@pytest.mark.parametrize(("over", "needed"), [(0, 459), (1, 662), (2, 838), (5, 1307), (10, 2010)])
def test_a_p99_needs_as_many_samples_as_mlperf_says(over: int, needed: int) -> None:
    assert samples_needed(over) == needed


@pytest.mark.parametrize(("over", "needed"), [(0, 44), (1, 64), (2, 81), (5, 127), (10, 197)])
def test_a_p90_needs_as_many_samples_as_mlperf_says(over: int, needed: int) -> None:
    assert samples_needed(over, percentile=0.9) == needed


def test_the_upper_bound_of_a_p99_is_the_value_that_as_many_may_exceed_as_the_samples_allow() -> None:
    assert upper_bound(np.arange(458)) is None
    assert upper_bound(np.arange(459)) == 458  # none may exceed it
    assert upper_bound(np.arange(661)) == 660
    assert upper_bound(np.arange(662)) == 660  # one may
    assert upper_bound(np.arange(838)) == 835  # two may
