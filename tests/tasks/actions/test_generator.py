"""Generated people: the same layout as the real ones, and neither trivial nor hopeless."""

from __future__ import annotations

import numpy as np

from edgebench.tasks import task_named
from edgebench.tasks.actions.generator import PEOPLE, TAKES
from edgebench.tasks.actions.skeletons import JOINTS, from_bytes
from edgebench.tasks.task import Dataset


def test_every_person_does_every_action_and_is_in_one_split(data: Dataset) -> None:
    assert (data.source, data.real, data.natural_key) == ("generated", False, "person")
    assert data.features == JOINTS
    first = 0
    for name, split in (("train", data.train), ("valid", data.valid), ("test", data.test)):
        assert split.key is not None
        assert np.unique(split.key).tolist() == list(range(first, first + PEOPLE[name]))
        pairs, takes = np.unique(split.key * 20 + split.y[:, 0].astype(int), return_counts=True)
        assert len(pairs) == PEOPLE[name] * 20
        assert (takes == TAKES).all()
        first += PEOPLE[name]
    groups = np.concatenate([data.train.group, data.valid.group, data.test.group])
    assert len(np.unique(groups)) == len(groups) == sum(PEOPLE.values()) * 20 * TAKES


def test_the_same_seed_gives_the_same_people(data: Dataset) -> None:
    task = task_named("action-recognition")
    assert np.array_equal(task.load(None, seed=1).test.x, data.test.x)
    assert not np.array_equal(task.load(None, seed=2).test.x, data.test.x)


def test_bodies_have_their_proportions_and_do_what_the_action_says(data: Dataset) -> None:
    places = {name: from_bytes(data.train.x)[:, i] for i, name in enumerate(JOINTS)}
    action = data.train.y[:, 0]
    # In torsos of half a metre; what the camera adds is small beside them.
    for a, b, length in (("right shoulder", "right elbow", 0.58), ("left hip", "left knee", 0.84)):
        found = np.linalg.norm(places[a] - places[b], axis=-1)
        assert abs(float(np.median(found)) - length) < 0.04
    waving, bending, kicking = (np.flatnonzero(action == number) for number in (0, 12, 13))
    assert (places["right hand"][waving, :, 1].max(axis=1) > 1.0).mean() > 0.95
    assert (places["left hand"][waving, :, 1].max(axis=1) < 1.0).mean() > 0.9
    assert (places["neck"][bending, :, 1].min(axis=1) < 0.8).all()
    right, left = (places[f"{side} foot"][kicking, :, 1].max(axis=1).mean() for side in ("right", "left"))
    assert right > left + 0.4


def test_a_classical_model_learns_much_of_it_but_not_all(data: Dataset) -> None:
    found = task_named("action-recognition").baseline(data, seed=1)
    assert found.name == "support vector machine on the same samples"
    assert 0.5 < found.metrics["top1"] < 0.85
