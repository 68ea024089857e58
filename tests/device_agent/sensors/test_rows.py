"""Numbers fitted into samples."""

from __future__ import annotations

from typing import Any

import pytest

from device_agent.sensors.live import ReadingError
from device_agent.sensors.rows import Rows
from edgebench.inference.spec import TensorSpec

WINDOW = TensorSpec("float32", (3, 2))
NAMES = ("warmth", "light")


def test_readings_of_one_step_fill_a_window_that_slides() -> None:
    rows = Rows(WINDOW, NAMES)
    assert rows.take([1, 2]) is None
    assert rows.take({"light": "4", "warmth": 3.0, "battery": "full"}) is None
    third = rows.take([5, 6])
    assert third is not None
    assert (third.tolist(), str(third.dtype)) == ([[1, 2], [3, 4], [5, 6]], "float32")
    fourth = rows.take(["7", "ON"])
    assert fourth is not None
    assert fourth.tolist() == [[3, 4], [5, 6], [7, 1]]


def test_a_reading_of_all_numbers_is_a_whole_sample() -> None:
    whole = Rows(WINDOW, NAMES).take([[1, 2], [3, 4], [5, 6]])
    assert whole is not None
    assert whole.tolist() == [[1, 2], [3, 4], [5, 6]]
    flat = Rows(TensorSpec("uint8", (2, 2, 1)), ("pixels",)).take([0, 1, 2, 255])
    assert flat is not None
    assert flat.tolist() == [[[0], [1]], [[2], [255]]]


def test_a_sample_of_features_alone_takes_one_reading() -> None:
    sample = Rows(TensorSpec("float32", (2,)), NAMES).take({"warmth": True, "light": -1})
    assert sample is not None
    assert sample.tolist() == [1, -1]


@pytest.mark.parametrize(
    ("reading", "why"),
    [
        ([1, 2, 3], r"3 numbers, where the task has 2 features \(warmth, light\), and a sample has 6"),
        ({"warmth": 1}, "without light"),
        ({"warmth": "cold", "light": 1}, "warmth is 'cold', which is no number"),
        ([1, "nan"], "not finite"),
        ([[1, 2], [3, 4], [5, 1e39]], "not finite"),
        ([None, 1], "no number"),
        ([], "0 numbers"),
    ],
)
def test_what_does_not_fit_is_said(reading: Any, why: str) -> None:
    with pytest.raises(ReadingError, match=why):
        Rows(WINDOW, NAMES).take(reading)


def test_numbers_that_a_sample_cannot_hold_are_refused() -> None:
    with pytest.raises(ReadingError, match="beyond 0 to 255"):
        Rows(TensorSpec("uint8", (2,)), NAMES).take([1, 256])
