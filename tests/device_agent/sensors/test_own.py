"""Sensors of a user's own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from device_agent.sensors.live import ReadingError
from device_agent.sensors.own import Own, SensorContext, Whole
from edgebench.fabric.sensors import SensorError
from edgebench.inference.spec import TensorSpec
from tests.device_agent.sensors.feeding import WAIT_S, choice, read

CONTEXT = SensorContext("bed-0", "vitals", "my-task", "float32", (2,), ("a", "b"))


def test_a_generator_is_given_what_it_is_for_and_yields_samples(tmp_path: Path) -> None:
    (tmp_path / "own_sensor_yields.py").write_text(
        "def sense(context):\n    yield [len(context.features), 0.5]\n    raise OSError('unplugged')\n"
    )
    with read(Own(choice("own_sensor_yields:sense", tmp_path), CONTEXT)) as got:
        assert got.get(timeout=WAIT_S) == [2, 0.5]
        assert str(got.get(timeout=WAIT_S)) == "unplugged"


@pytest.mark.parametrize(
    ("code", "attribute", "why"),
    [
        ("def sense(context):\n    return 5\n", "sense", "gives int, and nothing that yields samples"),
        ("sense = 5\n", "sense", "has no function 'sense'"),
        ("def sense(context):\n    yield 1\n", "other", "has no function 'other'"),
        ("import no_such_module\n", "sense", "cannot be imported: ModuleNotFoundError"),
    ],
)
def test_what_is_no_sensor_is_refused(tmp_path: Path, code: str, attribute: str, why: str) -> None:
    name = f"own_sensor_{abs(hash((code, attribute)))}"
    (tmp_path / f"{name}.py").write_text(code)
    with pytest.raises(SensorError, match=why):  # noqa: PT012 - by making it, or by reading
        own = Own(choice(f"{name}:{attribute}", tmp_path), CONTEXT)
        with read(own) as got:
            raise got.get(timeout=WAIT_S)


def test_an_array_is_a_sample_of_its_own() -> None:
    whole = Whole(TensorSpec("float32", (2,)))
    array = np.array([1.0, 2.0])
    kept = whole.take(array)
    array[0] = 9.0
    assert (kept.tolist(), str(kept.dtype)) == ([1.0, 2.0], "float32")
    with pytest.raises(ReadingError, match="where a sample is float32"):
        whole.take(np.array(["a", "b"]))


@pytest.mark.parametrize(
    ("array", "why"),
    [
        ([0.5, float("nan")], "not finite"),
        (np.array([1.0, 1e39]), "not finite"),
        ([[1.0], [2.0, 3.0]], "no array"),
    ],
)
def test_what_a_model_can_make_nothing_of_is_no_reading(array: Any, why: str) -> None:
    with pytest.raises(ReadingError, match=why):
        Whole(TensorSpec("float32", (2,))).take(array)
