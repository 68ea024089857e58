"""Drawn frames: seeded, varied, with markings where the labels are and not where they are not; the generator and the
classical model on it."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from edgebench.seeds import rng_for
from edgebench.tasks import task_named
from edgebench.tasks.lanes.drawing import draw
from edgebench.tasks.lanes.generator import FRAMES, roads
from edgebench.tasks.lanes.geometry import ABSENT, FRAME, ROWS, labels_of, lanes_of
from edgebench.tasks.task import Dataset

Array = NDArray[np.float32]


@pytest.fixture(scope="module")
def data() -> Dataset:
    return task_named("lane-detection").load(None, seed=1)


def test_generated_data_says_what_it_is_and_shares_no_road(data: Dataset) -> None:
    assert (data.source, data.real, data.spec.dtype, data.spec.shape) == ("generated", False, "uint8", (80, 160, 3))
    assert [len(split) for split in (data.train, data.valid, data.test)] == list(FRAMES.values())
    assert data.train.y.shape == (FRAMES["train"], 280)
    groups = [set(split.group) for split in (data.train, data.valid, data.test)]
    assert len(groups[0] | groups[1] | groups[2]) == sum(FRAMES.values())


def test_a_seed_repeats_its_roads_and_its_frames() -> None:
    labels = roads(6, rng_for(3, "test"))
    assert np.array_equal(labels, roads(6, rng_for(3, "test")))
    one, again, other, anew = (
        draw(labels, seed=seed, purpose=purpose) for seed, purpose in ((1, "a"), (1, "a"), (2, "a"), (1, "b"))
    )
    assert np.array_equal(one, again)
    assert not np.array_equal(one, other)
    assert not np.array_equal(one, anew)


def test_roads_have_two_to_five_lanes_that_fan_out(data: Dataset) -> None:
    lanes = lanes_of(data.train.y)
    count = (lanes >= 0).any(2).sum(1)
    assert set(count) == {2, 3, 4, 5}
    both = (lanes[:, 0] >= 0) & (lanes[:, 1] >= 0)
    assert (lanes[:, 1] > lanes[:, 0])[both].all()


def test_markings_brighten_the_road_along_the_lanes_and_not_beside_them(data: Dataset) -> None:
    on, beside = _contrast(data, shift=0.0), _contrast(data, shift=100.0)
    # In the mean over all kinds and states of paint; a good deal of it is worn, between dashes or hidden.
    assert on > 6
    assert abs(beside) < 3


def test_frames_differ_in_light_colour_and_content(data: Dataset) -> None:
    mean = data.train.x.reshape(len(data.train), -1, 3).mean(1)
    assert (mean.std(0) > 15).all()
    assert data.train.x.reshape(len(data.train), -1).std(1).min() > 5


def test_a_road_without_lanes_is_drawn_too() -> None:
    nothing = labels_of(np.full((2, 1, len(ROWS)), ABSENT, np.float32))
    assert draw(nothing, seed=1, purpose="test").shape == (2, *FRAME, 3)


def test_the_classical_finder_finds_some_lanes_and_far_from_all(data: Dataset) -> None:
    found = task_named("lane-detection").baseline(data, seed=1)
    assert "Hough" in found.name
    assert set(found.metrics) == {"accuracy", "fp", "fn", "points"}
    assert 0.5 < found.metrics["accuracy"] < 0.9
    assert 0.3 < found.metrics["points"] < 0.9


def _contrast(data: Dataset, *, shift: float) -> float:
    """Mean grey levels by which the pixels `shift` beside the lanes are brighter than those 40 pixels farther, in the
    lower part of the frames."""
    grey = data.train.x.astype(np.float32).mean(3)
    lanes = lanes_of(data.train.y)
    sample, lane, row = np.nonzero((lanes > 250) & (lanes < 1_030) & (ROWS > 450))
    x, y = lanes[sample, lane, row] + shift, (ROWS[row] / 9).astype(np.int64)
    levels = [grey[sample, y, np.clip((x + off) / 8, 0, 159).astype(np.int64)] for off in (0, -60, 60)]
    return float((levels[0] - (levels[1] + levels[2]) / 2).mean())
