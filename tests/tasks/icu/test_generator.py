"""Generated patients: published shape, seeded, learnable, and solved by no single reading."""

from __future__ import annotations

import numpy as np
import pytest

from edgebench.tasks.icu.generator import Outcome, generate
from edgebench.tasks.metrics import binary_metrics

OUTCOMES: tuple[Outcome, ...] = ("death", "decompensation", "heart-failure")


@pytest.mark.parametrize("outcome", OUTCOMES)
def test_generated_stays_have_the_published_shape_and_say_what_they_are(outcome: Outcome) -> None:
    data = generate(outcome, seed=1)
    assert (data.source, data.real, data.spec.dtype, data.spec.shape) == ("generated", False, "float32", (48, 76))
    assert len(data.features) == 76
    assert data.natural_key is None
    for split in (data.train, data.valid, data.test):
        assert split.key is None
        assert np.isfinite(split.x).all()
        assert split.y.shape == (len(split), 1)
        assert 0.05 < split.y.mean() < 0.45
        assert (np.diff(split.group) > 0).all()
    groups = [set(split.group) for split in (data.train, data.valid, data.test)]
    assert len(groups[0] | groups[1] | groups[2]) == sum(len(group) for group in groups)


@pytest.mark.parametrize("outcome", OUTCOMES)
def test_no_single_last_reading_solves_a_task(outcome: Outcome) -> None:
    test = generate(outcome, seed=2).test
    single = [binary_metrics(test.x[:, -1, feature], test.y)["auroc"] for feature in range(76)]
    assert max(max(area, 1 - area) for area in single) < 0.75


def test_a_seed_repeats_its_patients_and_another_gives_others() -> None:
    one, again, other = (generate("death", seed=seed).test for seed in (4, 4, 5))
    assert np.array_equal(one.x, again.x)
    assert np.array_equal(one.y, again.y)
    assert not np.array_equal(one.x, other.x)


def test_the_three_tasks_look_at_the_same_patients() -> None:
    death, failure = generate("death", seed=4).test, generate("heart-failure", seed=4).test
    assert np.array_equal(death.x, failure.x)
    assert not np.array_equal(death.y, failure.y)


def test_every_hour_has_one_category_and_a_coma_total_that_is_its_sum() -> None:
    data = generate("death", seed=3)
    names = list(data.features)
    totals = [i for i, name in enumerate(names) if name.startswith("Glascow coma scale total->")]
    assert (data.test.x[..., totals].sum(axis=-1) == 1).all()
    total = data.test.x[..., totals] @ np.array([float(names[i].split("->")[1]) for i in totals])
    awake = [names.index(f"Glascow coma scale eye opening->{text}") for text in ("4 Spontaneously", "Spontaneously")]
    assert data.test.x[..., awake].sum(axis=-1)[total == 15].all()
