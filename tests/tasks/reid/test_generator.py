"""Generated pedestrians."""

from __future__ import annotations

import numpy as np
import pytest

from edgebench.seeds import rng_for
from edgebench.tasks.reid.baseline import stripes
from edgebench.tasks.reid.generator import PEOPLE, pedestrians
from edgebench.tasks.reid.labels import CAMERA, IDENTITY, QUERY, ROLE
from edgebench.tasks.reid.task import REID
from edgebench.tasks.task import Dataset


@pytest.fixture(scope="module")
def data() -> Dataset:
    return REID.load(None, seed=1)


def test_everybody_is_seen_four_times_by_each_of_three_cameras(data: Dataset) -> None:
    seen: set[float] = set()
    for name, people in PEOPLE.items():
        split = getattr(data, name)
        assert split.x.shape == (people * 12, 96, 48, 3)
        pairs, counts = np.unique(split.y[:, : CAMERA + 1], axis=0, return_counts=True)
        assert len(pairs) == people * 3
        assert (counts == 4).all()
        assert split.group.tolist() == split.y[:, IDENTITY].tolist()
        assert not seen & set(split.group)
        seen |= set(split.group)
    # One in each camera.
    assert (data.test.y[:, ROLE] == QUERY).sum() == PEOPLE["test"] * 3
    assert not data.real


def test_chance_decides_all() -> None:
    one, again, other = (pedestrians(2, rng_for(seed, "test"))[0] for seed in (1, 1, 2))
    assert one.shape == (24, 96, 48, 3)
    assert np.array_equal(one, again)
    assert not np.array_equal(one, other)


def test_colours_alone_find_more_than_chance_and_far_from_all(data: Dataset) -> None:
    found = REID.baseline(data, seed=0).metrics["rank1"]
    assert 2 / PEOPLE["test"] < found < 0.6


def test_a_stripe_has_the_mean_colour_of_its_rows() -> None:
    x = np.zeros((1, 96, 48, 3), np.uint8)
    x[0, :24, :24] = (200, 100, 0)
    assert stripes(x, 4).tolist() == [[100, 50, 0] + [0] * 9]
