"""Lanes as numbers: order, prolonging, mirroring, the grid, and what models are to learn."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from edgebench.seeds import rng_for
from edgebench.tasks.lanes.decoding import (
    ANCHOR_OUTPUTS,
    EMBEDDING,
    GRID,
    GRID_Y,
    SEGMENT_OUTPUTS,
    SLOTS,
    lanes_from,
)
from edgebench.tasks.lanes.evaluation import lane_metrics
from edgebench.tasks.lanes.generator import roads
from edgebench.tasks.lanes.geometry import ABSENT, ROWS, at_bottom, labels_of, lanes_of, mirrored, prolonged
from edgebench.tasks.lanes.targets import anchors, segments

Array = NDArray[np.float32]


def lane(x: float, slope: float = 0.0, rows: slice = slice(0, 56)) -> Array:
    """x at the lowest row, its change a pixel downwards, and the rows where the lane is."""
    found = np.full(56, ABSENT, np.float32)
    found[rows] = (x + slope * (ROWS - 710))[rows]
    return found


@pytest.fixture(scope="module")
def labels() -> Array:
    return roads(40, rng_for(1, "test", "roads"))


def test_labels_have_56_rows_by_ten_from_160_and_five_lanes() -> None:
    assert (ROWS[0], ROWS[-1], len(ROWS)) == (160, 710, 56)
    assert labels_of(lane(300)[None, None]).shape == (1, 280)


def test_lanes_are_sorted_where_they_meet_the_bottom_and_absent_ones_are_last() -> None:
    # The last one leaves the frame at its left side, at half height.
    leaving = lane(-500, -3.0, slice(9, 25))
    mixed = np.stack([lane(700), np.full(56, ABSENT, np.float32), lane(200), leaving])[None]
    found = lanes_of(labels_of(mixed))[0]
    assert at_bottom(found[None])[0].tolist() == [-500, 200, 700, np.inf, np.inf]


def test_of_six_lanes_the_outermost_is_left_away() -> None:
    six = np.stack([lane(x) for x in (10, 300, 500, 700, 900, 1_100)])[None]
    assert at_bottom(lanes_of(labels_of(six)))[0].tolist() == [300, 500, 700, 900, 1_100]


def test_a_lane_goes_straight_on_beyond_its_ends_and_straight_between_its_points() -> None:
    given = lane(500, 2.0, slice(20, 40))[None, None]
    assert prolonged(given, np.array([100, 365, 710], np.float32))[0, 0] == pytest.approx([-720, -190, 500])


def test_mirroring_swaps_sides_and_twice_changes_nothing(labels: Array) -> None:
    flipped = lanes_of(mirrored(labels_of(np.stack([lane(300), lane(1_000)])[None])))[0]
    assert flipped[:2, -1].tolist() == [279, 979]
    assert np.array_equal(mirrored(mirrored(labels)), labels)


def test_slots_count_from_the_middle_of_the_frame() -> None:
    labels = labels_of(np.stack([lane(200), lane(500), lane(800)])[None])
    found = anchors(labels).reshape(SLOTS, GRID[0])
    assert (found >= 0).any(1).tolist() == [False, True, True, True, False, False]
    assert found[1:4, -1] == pytest.approx([200 / 1280, 500 / 1280, 800 / 1280])


def test_segments_number_the_cells_of_each_lane() -> None:
    # 328 is the middle of column 20, of 16 pixels each; a marking is two columns wide and more.
    found = segments(labels_of(np.stack([lane(328, rows=slice(30, 56)), lane(808)])[None])).reshape(GRID)
    assert np.flatnonzero(found[-1] == 1).tolist() == [19, 20, 21]
    assert np.flatnonzero(found[-1] == 2).tolist() == [49, 50, 51]
    assert (found == 1).any(1).tolist() == (GRID_Y >= 455).tolist()


def test_what_is_to_be_learned_decodes_to_the_labels(labels: Array) -> None:
    wanted = anchors(labels)
    outputs = np.concatenate([np.clip(wanted, 0, 1), (wanted >= 0).astype(np.float32)], axis=1)
    assert outputs.shape[1] == ANCHOR_OUTPUTS == 384
    assert lane_metrics(lanes_from(outputs), lanes_of(labels))["accuracy"] > 0.98
    number = segments(labels)
    places = np.array([[0, 0, 0, 0], *(4.0 * np.eye(4)), [4, 4, 4, 4]], np.float32)
    odds = np.where(number > 0, 5.0, -5.0)[:, :, None]
    outputs = np.concatenate([odds, places[number]], axis=2).reshape(len(labels), -1).astype(np.float32)
    assert outputs.shape[1] == SEGMENT_OUTPUTS == 2_560 * (1 + EMBEDDING)
    assert lane_metrics(lanes_from(outputs), lanes_of(labels))["accuracy"] > 0.97


def test_cells_that_touch_are_told_apart_by_their_embeddings_alone() -> None:
    cells = np.zeros((1, *GRID, 1 + EMBEDDING), np.float32)
    cells[..., 0] = -5.0
    for first, place in ((40, 0.0), (42, 4.0)):
        cells[0, :, first : first + 2, 0] = 5.0
        cells[0, :, first : first + 2, 1] = place
    found = lanes_from(cells.reshape(1, -1))[0]
    present = found[(found >= 0).any(1)]
    # The middles of columns 40 and 41, and of 42 and 43.
    assert sorted(present[:, -1].tolist()) == pytest.approx([656, 688], abs=0.1)
    cells[..., 1] = 0.0
    assert (lanes_from(cells.reshape(1, -1))[0] >= 0).any(1).sum() == 1


def test_gaps_of_a_lane_are_bridged_and_specks_are_none() -> None:
    outputs = np.zeros((1, 2 * SLOTS, GRID[0]), np.float32)
    outputs[0, 1] = 0.25
    outputs[0, SLOTS + 1, 10:14] = outputs[0, SLOTS + 1, 20:] = 0.9
    outputs[0, SLOTS + 4, 5:7] = 0.9
    found = lanes_from(outputs.reshape(1, -1))[0]
    assert (found >= 0).any(1).tolist() == [False, True, False, False, False, False]
    assert found[1][ROWS >= 330] == pytest.approx(320, abs=1)


def test_a_number_of_outputs_that_no_model_has_is_refused() -> None:
    with pytest.raises(ValueError, match="7 outputs; a model of lanes has 384 or 12800"):
        lanes_from(np.zeros((1, 7), np.float32))
