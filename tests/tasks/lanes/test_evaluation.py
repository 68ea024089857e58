"""TuSimple's figures, against numbers worked out by hand and against its definition lane by lane."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from edgebench.seeds import rng_for
from edgebench.tasks.lanes.decoding import GRID, SLOTS
from edgebench.tasks.lanes.evaluation import frame_ratios, lane_metrics
from edgebench.tasks.lanes.geometry import ABSENT, LANES, ROWS, labels_of
from edgebench.tasks.lanes.task import TASK
from edgebench.tasks.metrics import ratio_intervals

Array = NDArray[np.float32]


def frame(*lanes: Array) -> Array:
    """One frame of these lanes."""
    return np.stack(lanes)[None].astype(np.float32)


def upright(x: float, rows: slice = slice(0, 56)) -> Array:
    lane = np.full(56, ABSENT, np.float32)
    lane[rows] = x
    return lane


NOTHING = upright(ABSENT)


def test_the_true_lanes_are_all_found() -> None:
    true = frame(upright(300), upright(700, slice(10, 50)))
    assert lane_metrics(true, true) == {"accuracy": 1.0, "fp": 0.0, "fn": 0.0, "points": 1.0}


def test_a_point_twenty_pixels_away_is_missed_and_one_nearer_is_found() -> None:
    true = frame(upright(300))
    assert lane_metrics(true + 19.5, true)["accuracy"] == 1.0
    missed = lane_metrics(true + 20, true)
    assert missed == {"accuracy": 0.0, "fp": 1.0, "fn": 1.0, "points": 0.0}


def test_the_threshold_widens_with_the_lanes_angle() -> None:
    # x changes by 3/4 a row of pixels: cos(arctan 0.75) = 0.8, hence 25 pixels.
    true = frame((100 + 0.75 * (ROWS - 160)).astype(np.float32))
    assert lane_metrics(true + 24.9, true)["accuracy"] == 1.0
    assert lane_metrics(true + 25.1, true)["accuracy"] == 0.0


def test_rows_count_as_found_where_neither_has_the_lane_and_as_missed_where_one_has() -> None:
    # True in 14 rows; the prediction has 7 of them and 7 others: 14 of 56 rows disagree. 0.75 is no match.
    true, guess = frame(upright(300, slice(10, 24))), frame(upright(300, slice(17, 31)))
    found = lane_metrics(guess, true)
    assert found == {"accuracy": 0.75, "fp": 1.0, "fn": 1.0, "points": 0.5}
    # Of 8 rows too many 48 agree: 0.857 is a match.
    found = lane_metrics(frame(upright(300, slice(10, 32))), true)
    assert found["accuracy"] == pytest.approx(48 / 56)
    assert (found["fp"], found["fn"], found["points"]) == (0.0, 0.0, 1.0)


def test_a_lane_too_many_is_a_false_positive_and_one_too_few_a_false_negative() -> None:
    two, three = frame(upright(300), upright(700), NOTHING), frame(upright(300), upright(500), upright(700))
    assert lane_metrics(three, two) == {"accuracy": 1.0, "fp": pytest.approx(1 / 3), "fn": 0.0, "points": 1.0}
    found = lane_metrics(two, three)
    assert found["accuracy"] == pytest.approx(2 / 3)
    assert found["fp"] == 0.0
    assert found["fn"] == pytest.approx(1 / 3)
    assert lane_metrics(frame(NOTHING), three) == {"accuracy": 0.0, "fp": 0.0, "fn": 1.0, "points": 0.0}


def test_of_five_lanes_the_worst_is_forgiven() -> None:
    five = frame(*(upright(x) for x in (100, 300, 500, 700, 900)))
    assert lane_metrics(five[:, 1:], five) == {"accuracy": 1.0, "fp": 0.0, "fn": 0.0, "points": 0.8}
    assert lane_metrics(five[:, 2:], five)["fn"] == 0.25


def test_three_lanes_too_many_score_nothing() -> None:
    two = frame(upright(300), upright(700))
    four = frame(*(upright(x) for x in (300, 700, 500, 900)))
    five = frame(*(upright(x) for x in (300, 700, 500, 900, 100)))
    assert lane_metrics(four, two)["accuracy"] == 1.0
    assert lane_metrics(five, two) | {"points": 1.0} == {"accuracy": 0.0, "fp": 0.0, "fn": 1.0, "points": 1.0}


def test_figures_are_means_over_frames_and_a_frame_without_lanes_counts_for_nothing() -> None:
    true = np.concatenate([frame(upright(300)), frame(upright(300)), frame(NOTHING)])
    guess = np.concatenate([frame(upright(300)), frame(upright(600)), frame(upright(600))])
    assert lane_metrics(guess, true) == {"accuracy": 0.5, "fp": 0.5, "fn": 0.5, "points": 0.5}
    assert all(math.isnan(value) for value in lane_metrics(guess[2:], true[2:]).values())
    with pytest.raises(ValueError, match="2 outputs for 3 labels"):
        lane_metrics(guess[:2], true)


def test_intervals_draw_whole_clips() -> None:
    # Two clips, one all found, one all missed: their mean is 0, 0.5 or 1, whatever frames a clip has.
    true = np.concatenate([frame(upright(300))] * 20)
    guess = np.concatenate([true[:10], true[10:] + 100])
    ratios = frame_ratios(guess, true)
    clips = ratio_intervals(ratios, seed=1, group=np.arange(20) // 10)
    frames = ratio_intervals(ratios, seed=1)
    assert clips["accuracy"] == (0.0, 1.0)
    assert 0.2 < frames["accuracy"][0] < frames["accuracy"][1] < 0.8


def test_all_frames_at_once_give_what_the_definition_gives_one_by_one() -> None:
    rng = rng_for(1, "test", "lanes")
    true = np.full((60, 5, 56), ABSENT, np.float32)
    guess = np.full((60, 6, 56), ABSENT, np.float32)
    for lanes in (true, guess):
        for index in range(len(lanes)):
            for lane in range(rng.integers(1, lanes.shape[1] + 1)):
                first, last = np.sort(rng.integers(0, 57, 2))
                slope = rng.uniform(-2, 2)
                lanes[index, lane, first:last] = np.clip(640 + 150 * (lane - 2) + slope * (ROWS - 400), 0, 1_279)[
                    first:last
                ]
    guess[:30, :5] = np.where(true[:30] >= 0, true[:30] + rng.normal(0, 15, true[:30].shape), ABSENT)
    expected = [_by_definition(p, t) for p, t in zip(guess, true, strict=True) if (t >= 0).any()]
    found = lane_metrics(guess, true)
    assert [found[name] for name in ("accuracy", "fp", "fn")] == pytest.approx(np.mean(expected, axis=0))
    assert 0.2 < found["accuracy"] < 0.9


def _by_definition(guess: Array, true: Array) -> tuple[float, float, float]:
    predicted = [lane for lane in guess if (lane >= 0).any()]
    lanes = [lane for lane in true if (lane >= 0).any()]
    if len(predicted) > len(lanes) + 2:
        return 0.0, 0.0, 1.0
    accuracies = []
    for lane in lanes:
        there = lane >= 0
        slope = np.polyfit(ROWS[there], lane[there], 1)[0] if there.sum() > 1 else 0.0
        threshold = 20 / math.cos(math.atan(slope))
        shares = [0.0]
        for candidate in predicted:
            apart = np.abs(np.where(candidate >= 0, candidate, -100) - np.where(there, lane, -100))
            shares.append(float((apart < threshold).mean()))
        accuracies.append(max(shares))
    matched = sum(accuracy >= 0.85 for accuracy in accuracies)
    missed = len(lanes) - matched
    if len(lanes) > 4:
        missed -= missed > 0
        accuracies.remove(min(accuracies))
    counted = min(len(lanes), 4)
    fp = (len(predicted) - matched) / len(predicted) if predicted else 0.0
    return sum(accuracies) / counted, fp, missed / counted


def test_of_a_frame_without_labelled_lanes_nobody_knows_whether_it_is_right() -> None:
    outputs = np.zeros((2, 2 * SLOTS * GRID[0]), np.float32)
    labels = labels_of(np.full((2, LANES, len(ROWS)), ABSENT, np.float32))
    labels[1, : len(ROWS)] = 640
    unknown, missed = TASK.right(outputs, labels)
    assert np.isnan(unknown)
    assert missed == 0
