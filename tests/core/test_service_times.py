"""Draws from a profile's distributions, and the laws between what was measured."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest

from edgebench.core.service_times import BatchTimes, SizedTimes, lacking, quantiles, splits_by
from edgebench.topology.profiles import Times

LITERT = (1, 8, 32)


def always(quantile: float) -> Iterator[float]:
    return itertools.repeat(quantile)


def test_each_time_is_drawn_as_often_as_any_other_and_the_same_seed_draws_the_same() -> None:
    times = BatchTimes({1: Times(4, (1.0, 2.0, 3.0, 10.0))}, None, quantiles(7, "infer", "ward"))
    drawn = [times.service_ns(1) / 1e3 for _ in range(4000)]
    assert {value: pytest.approx(1000, abs=100) for value in (1.0, 2.0, 3.0, 10.0)} == {
        value: drawn.count(value) for value in sorted(set(drawn))
    }
    again = BatchTimes({1: Times(4, (1.0, 2.0, 3.0, 10.0))}, None, quantiles(7, "infer", "ward"))
    assert [again.service_ns(1) / 1e3 for _ in range(4000)] == drawn
    other = BatchTimes({1: Times(4, (1.0, 2.0, 3.0, 10.0))}, None, quantiles(8, "infer", "ward"))
    assert [other.service_ns(1) / 1e3 for _ in range(4000)] != drawn


def test_between_two_sizes_the_same_quantile_of_both_is_interpolated_and_beyond_them_is_counted() -> None:
    times = SizedTimes({100: Times(2, (10.0, 20.0)), 300: Times(2, (30.0, 80.0))})
    assert [times.ns(size, 0.0) / 1e3 for size in (50, 100, 200, 250, 300)] == [10.0, 10.0, 20.0, 25.0, 30.0]
    assert times.ns(200, 0.5) == 50_000
    assert times.mean_ns(200) == (15_000 + 55_000) / 2
    assert times.beyond == 0
    assert times.ns(301, 0.5) == 80_000
    assert (times.beyond, times.largest) == (1, 301)


def test_a_batch_takes_as_long_as_the_split_that_the_runtime_would_choose() -> None:
    of_eight = BatchTimes({1: Times(1, (10.0,)), 8: Times(1, (35.0,))}, LITERT, always(0.0))
    # Three by one are cheaper than eight with padding, four are not; nine are one of eight, and one.
    assert [of_eight.service_ns(n) / 1e3 for n in (1, 2, 3, 4, 8)] == [10.0, 20.0, 30.0, 35.0, 35.0]
    all_three = BatchTimes({1: Times(1, (10.0,)), 8: Times(1, (35.0,)), 32: Times(1, (100.0,))}, LITERT, always(0.0))
    assert [all_three.service_ns(n) / 1e3 for n in (9, 32, 40)] == [45.0, 100.0, 135.0]
    assert all_three.mean_ns(40) == 135_000


def test_what_batches_need_and_was_not_measured_is_named() -> None:
    one, one_and_eight = {1: Times(1, (1.0,))}, {1: Times(1, (1.0,)), 8: Times(1, (3.0,))}
    assert splits_by("litert", LITERT) == LITERT
    assert splits_by("onnx", LITERT) is None
    assert lacking(one, LITERT, 1) == []
    assert lacking(one, LITERT, 4) == [8]
    assert lacking(one_and_eight, LITERT, 8) == []
    assert lacking(one_and_eight, LITERT, 9) == [32]
    assert lacking({}, LITERT, 1) == [1]
    # A runtime that takes any number at once is known between two sizes, and not beyond.
    assert lacking(one_and_eight, None, 5) == []
    assert lacking(one_and_eight, None, 9) == [9]
    assert lacking(one, None, 2) == [2]
