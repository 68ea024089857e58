"""The networks: their sizes, their training, and what becomes of them elsewhere."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

from edgebench.tasks import task_named
from edgebench.tasks.models import outputs_of, with_batch
from edgebench.tasks.signs.capsules import margin_loss
from edgebench.tasks.signs.models import build
from edgebench.tasks.task import Dataset, Epoch, FitOptions, Size

TASK = task_named("sign-recognition")


@pytest.fixture(scope="module")
def data() -> Dataset:
    return TASK.load(None, seed=1)


@pytest.fixture(scope="module")
def light(data: Dataset) -> keras.Model:
    return TASK.fit("light", data, FitOptions(seed=1, epochs=1, examples=200))


def test_the_published_shape_has_the_number_of_parameters_of_the_original_at_32_pixels_and_43_signs() -> None:
    # From 32 pixels a window of 9 leaves 24, and one of 9 with stride 2 leaves 8 of those: 8 · 8 · 32 capsules.
    convolution = 9 * 9 * 3 * 256 + 256
    primary = 9 * 9 * 256 * (32 * 8) + 32 * 8
    signs = (8 * 8 * 32) * 43 * (8 * 16)
    published = build("published")
    assert published.model.count_params() == convolution + primary + signs == 16_643_328
    assert TASK.models["published"].parameters == 16_643_328
    # One step of training.
    published.trainee.compile(keras.optimizers.Adam(1e-3), margin_loss, jit_compile=False)
    x, y = np.zeros((2, 32, 32, 3), np.uint8), np.array([[3], [42]], np.float32)
    before = published.model.get_weights()[0]
    loss = published.trainee.train_on_batch(x, y)
    assert 0 < loss < 43
    assert not np.array_equal(published.model.get_weights()[0], before)


@pytest.mark.parametrize("size", ["light", "heavy"])
def test_the_listed_numbers_of_parameters_are_those_of_the_networks(size: Size) -> None:
    assert build(size).model.count_params() == TASK.models[size].parameters


def test_outputs_are_probabilities_and_repeat_with_the_seed(data: Dataset, light: keras.Model) -> None:
    outputs = outputs_of(light, data.test.x)
    assert outputs.shape == (len(data.test), 43)
    assert outputs.dtype == np.float32
    assert outputs.min() >= 0
    assert outputs.sum(axis=1) == pytest.approx(1, abs=1e-5)
    again = TASK.fit("light", data, FitOptions(seed=1, epochs=1, examples=200))
    assert outputs_of(again, data.test.x) == pytest.approx(outputs, abs=1e-5)


def test_capsules_learn_and_tell_how_far_they_are(data: Dataset) -> None:
    seen: list[Epoch] = []
    heavy = TASK.fit("heavy", data, FitOptions(seed=1, epochs=2, examples=200, progress=seen.append))
    assert [(e.epoch, e.epochs) for e in seen] == [(1, 2), (2, 2)]
    assert seen[1].loss < seen[0].loss
    best = max(e.quality for e in seen)
    assert best > 3 / 43
    outputs = outputs_of(heavy, data.valid.x)
    assert TASK.score(outputs, data.valid.y)["top1"] == pytest.approx(best)
    assert outputs.sum(axis=1) == pytest.approx(1, abs=1e-5)


def test_saved_models_decide_alike_where_this_project_is_not(data: Dataset, tmp_path: Path) -> None:
    x = data.test.x[:5]
    np.save(tmp_path / "x.npy", x)
    sizes: tuple[Size, ...] = ("light", "heavy")
    models = {size: build(size).model for size in sizes}
    for size, model in models.items():
        model.save(tmp_path / f"{size}.keras")
    program = """
import sys
import keras
import numpy as np
for size in ("light", "heavy"):
    model = keras.models.load_model(size + ".keras", compile=False, safe_mode=True)
    np.save(size + ".npy", keras.ops.convert_to_numpy(model(np.load("x.npy"), training=False)))
assert not any(name.startswith("edgebench") for name in sys.modules)
"""
    subprocess.run([sys.executable, "-c", program], cwd=tmp_path, env=os.environ, check=True, capture_output=True)
    for size, model in models.items():
        expected = outputs_of(model, x)
        assert np.load(tmp_path / f"{size}.npy") == pytest.approx(expected, abs=1e-5)
        fixed = with_batch(model, 5)
        assert fixed.input_shape == (5, 32, 32, 3)
        assert outputs_of(fixed, x) == pytest.approx(expected, abs=1e-5)
