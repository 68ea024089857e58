"""Generated faces: the same from the same seed, of people nobody has seen before, and no easy prey."""

from __future__ import annotations

import numpy as np

from edgebench.tasks import task_named
from edgebench.tasks.faces.generator import PEOPLE, PICTURES

TASK = task_named("face-recognition")


def test_a_seed_gives_the_same_faces_and_another_seed_others() -> None:
    one, again, other = (TASK.load(None, seed=seed) for seed in (1, 1, 2))
    assert not one.real
    assert (one.spec.dtype, one.spec.shape) == ("uint8", (56, 48, 1))
    assert np.array_equal(one.train.x, again.train.x)
    assert not np.array_equal(one.train.x, other.train.x)
    parts = {"train": one.train, "valid": one.valid, "test": one.test}
    for name, split in parts.items():
        assert len(split) == PEOPLE[name] * PICTURES
        assert np.array_equal(split.y[:, 0], split.group)
    seen = [set(split.group.tolist()) for split in parts.values()]
    assert len(set.union(*seen)) == sum(PEOPLE.values()) == sum(map(len, seen))


def test_pixels_alone_tell_a_little_and_not_much() -> None:
    # One in thirty people is found by chance.
    metrics = TASK.baseline(TASK.load(None, seed=1), seed=0).metrics
    assert 0.55 < metrics["auc"] < 0.75
    assert metrics["rank1"] > 2 / 30
