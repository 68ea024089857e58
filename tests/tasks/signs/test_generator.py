"""Generated signs: seeded, of many kinds, and neither trivial nor hopeless."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from edgebench.seeds import rng_for
from edgebench.tasks import task_named
from edgebench.tasks.signs.augment import augmented
from edgebench.tasks.signs.drawing import SIGNS, drawn_signs
from edgebench.tasks.signs.generator import generate
from edgebench.tasks.task import Dataset, Split


@pytest.fixture(scope="module")
def data() -> Dataset:
    return generate(seed=3)


def test_every_class_has_its_tracks_in_every_split_and_none_is_in_two(data: Dataset) -> None:
    assert (data.source, data.real, data.natural_key) == ("generated", False, None)
    assert (data.spec.dtype, data.spec.shape) == ("uint8", (32, 32, 3))
    seen: set[int] = set()
    for split, tracks in ((data.train, 14), (data.valid, 3), (data.test, 6)):
        assert split.y.shape == (len(split), 1)
        assert np.bincount(split.y[:, 0].astype(int)).tolist() == [tracks * 4] * 43
        groups, sizes = np.unique(split.group, return_counts=True)
        assert set(sizes) == {4}
        for group in groups[:20]:
            assert len(np.unique(split.y[split.group == group])) == 1
        assert not seen & set(groups.tolist())
        seen |= set(groups.tolist())
    assert len(seen) == 43 * (14 + 3 + 6)


def test_a_seed_repeats_its_signs_and_another_gives_others(data: Dataset) -> None:
    again, other = generate(seed=3), generate(seed=4)
    assert np.array_equal(again.test.x, data.test.x)
    assert np.array_equal(again.test.y, data.test.y)
    assert not np.array_equal(other.test.x, data.test.x)


def test_no_two_signs_are_drawn_alike() -> None:
    drawn = drawn_signs().astype(int)
    assert drawn.shape == (43, 64, 64, 4)
    apart = [np.abs(drawn[i] - drawn[j]).mean() for i in range(43) for j in range(i)]
    assert min(apart) > 0.5
    # A sign is opaque in its middle, and nothing is in its corners.
    assert (drawn[:, 32, 32, 3] == 255).all()
    assert (drawn[:, 0, 0, 3] == 0).all()
    assert all(len({len(row) for row in sign.pattern}) <= 1 for sign in SIGNS)


def test_generated_signs_are_learnable_but_not_from_raw_pixels(data: Dataset) -> None:
    # The limits of speed alone, which look most alike.
    train, valid, test = (_first(split, 9) for split in (data.train, data.valid, data.test))
    limits = replace(data, train=train, valid=valid, test=test)
    known, asked = (split.x.reshape(len(split), -1).astype(np.float32) for split in (train, test))
    nearest = ((known**2).sum(axis=1) - 2 * asked @ known.T).argmin(axis=1)
    by_pixels = (train.y[nearest] == test.y).mean()
    assert by_pixels < 0.5 < task_named("sign-recognition").baseline(limits, seed=0).metrics["top1"] < 0.97


def _first(split: Split, classes: int) -> Split:
    return split.rows(np.flatnonzero(split.y[:, 0] < classes))


def test_augmented_signs_stay_where_they_are_and_repeat_with_their_seed(data: Dataset) -> None:
    x = data.train.x[:200]
    one, again, other = (augmented(x, rng_for(seed, "test")) for seed in (1, 1, 2))
    assert one.dtype == np.uint8
    assert one.shape == x.shape
    assert np.array_equal(one, again)
    assert not np.array_equal(one, other)
    # Most of what was seen is still seen, though in another light: contrasts agree.
    before, after = (
        (each - each.mean(axis=1, keepdims=True)) / each.std(axis=1, keepdims=True)
        for each in (x.reshape(200, -1).astype(float), one.reshape(200, -1).astype(float))
    )
    assert np.median((before * after).mean(axis=1)) > 0.5
