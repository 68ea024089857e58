"""From measurements to what a profile holds of them."""

from __future__ import annotations

import numpy as np
import pytest

from edgebench.errors import FabricError
from edgebench.experiments.profiling.heat import sustained_of
from edgebench.experiments.profiling.model_child import SLICES, Timed
from edgebench.experiments.profiling.summary import MOST_KEPT, rest_of, times_of


def test_few_measurements_are_kept_as_they_are() -> None:
    times = times_of([3_000.0, 1_000.0, 2_500.0])
    assert (times.n, times.us) == (3, (1.0, 2.5, 3.0))


def test_many_are_kept_as_means_of_equal_shares_so_that_the_mean_stays() -> None:
    measured_ns = np.random.default_rng(1).lognormal(15, 1, 1_234)  # noqa: TID251
    times = times_of(measured_ns.tolist())
    assert (times.n, len(times.us)) == (1_234, MOST_KEPT)
    assert list(times.us) == sorted(times.us)
    assert times.mean_us == pytest.approx(measured_ns.mean() / 1e3, rel=2e-3)
    assert np.percentile(times.us, 99) == pytest.approx(np.percentile(measured_ns, 99) / 1e3, rel=0.1)


def test_shares_that_are_all_but_equal_ascend() -> None:
    for value_ns in (92_653.5, 370_785.0, 1_234_550.0):
        us = times_of([value_ns] * 12).us
        assert list(us) == sorted(us)


def test_what_is_left_beside_a_part_has_the_mean_and_the_variance_that_make_up_the_whole() -> None:
    rng = np.random.default_rng(1)  # noqa: TID251
    part = rng.lognormal(13, 0.4, 5_000)
    rest = rng.lognormal(14, 0.2, 5_000)
    found = np.array(rest_of((part + rest).tolist(), rng.permutation(part).tolist()).us) * 1e3
    assert found.mean() == pytest.approx(rest.mean(), rel=2e-3)
    assert found.std() == pytest.approx(rest.std(), rel=0.1)


def test_a_part_that_varies_more_than_its_whole_leaves_what_takes_always_the_same() -> None:
    assert len(set(rest_of([5_000.0, 5_001.0, 4_999.0], [1_000.0, 3_000.0, 2_000.0]).us)) == 1


def test_a_moment_in_which_only_a_part_was_disturbed_takes_nothing_off_the_rest() -> None:
    wholes = [5_000.0] * 8
    assert rest_of(wholes, [1_000.0] * 7 + [90_000.0]).mean_us == 4.0


def test_a_part_that_takes_longer_than_its_whole_was_measured_beside_other_work() -> None:
    with pytest.raises(FabricError, match="measure again"):
        rest_of([1_000.0, 1_200.0], [1_000.0, 1_300.0])


def test_a_machine_that_throttles_shows_from_when_and_by_how_much() -> None:
    steady = Timed(medians_ns=[10.0] * SLICES)
    found = sustained_of([steady, steady], 60.0, 71.26)
    assert found is not None
    assert (found.slowdown, found.from_s, found.hottest_c) == (1.0, None, 71.3)
    throttling = [10.0] * 12 + [10.2, 11.0, 12.0, 13.0, 13.0, 13.0, 13.0, 13.0]
    found = sustained_of([Timed(medians_ns=[*throttling])], 60.0, None)
    assert found is not None
    assert (found.slowdown, found.from_s, found.hottest_c) == (1.3, 39.0, None)
    # One slow moment in the middle is none.
    hiccup = [10.0] * 8 + [20.0] + [10.0] * 11
    found = sustained_of([Timed(medians_ns=[*hiccup])], 60.0, None)
    assert found is not None
    assert (found.slowdown, found.from_s) == (1.0, None)
    assert sustained_of([], 60.0, None) is None
