"""Measurements become values, masks and gaps."""

from __future__ import annotations

import numpy as np
import pytest

from edgebench.tasks.icu.features import Channel, cleaned, encode, feature_names, filled, last_steps, typical
from edgebench.tasks.icu.published import VARIABLES, carried_forward
from edgebench.tasks.icu.published import encode as encode_published
from edgebench.tasks.icu.published import feature_names as published_names

NAN = np.nan


def test_a_missing_value_is_the_one_before_it_and_the_normal_one_at_first() -> None:
    grid = np.array([[[NAN, 5], [1, NAN], [NAN, NAN], [2, 7]]], np.float32)
    held = carried_forward(grid, np.array([9, 8], np.float32))
    assert held[0].tolist() == [[9, 5], [1, 5], [1, 5], [2, 7]]


def test_every_variable_gives_value_mask_and_gap_and_a_constant_one_column() -> None:
    grid = np.array([[[NAN], [80], [NAN], [NAN], [90]]], np.float32)
    steps = encode(grid, np.array([[65]], np.float32), np.array([75], np.float32))
    value, mask, gap, age = steps[0].T
    assert value.tolist() == [75, 80, 80, 80, 90]
    assert mask.tolist() == [0, 1, 0, 0, 1]
    # Never measured counts as 48 h ago.
    assert gap.tolist() == [48, 0, 1, 2, 0]
    assert age.tolist() == [65] * 5
    assert feature_names((Channel("HR", 0, 300),), ("age",)) == ("HR", "HR mask", "HR gap", "age")


def test_mistyped_values_count_as_not_measured_and_spread_ones_are_logarithms() -> None:
    channels = (Channel("pH", 6.5, 8), Channel("ALT", 1, 20_000, log=True))
    found = cleaned(np.array([[7.4, 99], [735, 0]], np.float32), channels)
    assert found[0].tolist() == pytest.approx([7.4, np.log(100)])
    assert np.isnan(found[1]).all()


def test_the_typical_value_is_the_median_of_what_was_measured() -> None:
    assert typical(np.array([[[1, NAN], [NAN, NAN]], [[2, NAN], [9, NAN]]], np.float32)).tolist() == [2, 0]


def test_unknown_constants_take_the_median_of_the_known_stays_only() -> None:
    constants = np.array([[60], [70], [NAN], [99]], np.float32)
    assert filled(constants, np.array([True, True, True, False])).tolist() == [[60], [70], [65], [99]]


def test_a_short_stay_is_filled_up_ahead_of_its_first_hour() -> None:
    rows = np.arange(60, dtype=np.float32)[:, None]
    before = np.array([-1], np.float32)
    assert last_steps(rows, before, 3)[:, 0].tolist() == [-1] * 45 + [0, 1, 2]
    assert last_steps(rows, before, 50)[:, 0].tolist() == list(range(2, 50))


def test_the_published_features_are_12_numbers_47_categories_and_17_masks() -> None:
    names = published_names()
    assert len(names) == 76
    assert sum(not v.categories for v in VARIABLES) == 12
    assert sum(len(v.categories) for v in VARIABLES) == 47
    assert names[:3] == ("Capillary refill rate->0.0", "Capillary refill rate->1.0", "Diastolic blood pressure")
    assert names[-1] == "mask->pH"


def test_a_category_is_one_hot_and_its_mask_says_whether_it_was_measured() -> None:
    names = published_names()
    value = np.zeros((1, 2, 17), np.float32)
    value[..., 0] = 1
    measured = np.zeros((1, 2, 17), bool)
    measured[0, 0, 0] = True
    steps = encode_published(value, measured)[0]
    assert steps[:, names.index("Capillary refill rate->1.0")].tolist() == [1, 1]
    assert steps[:, names.index("Capillary refill rate->0.0")].tolist() == [0, 0]
    assert steps[:, names.index("mask->Capillary refill rate")].tolist() == [1, 0]
    # A saturation of 0 is sound, a temperature of 0 is cut to what a body can have.
    assert steps[:, names.index("Temperature")].tolist() == [14, 14]
