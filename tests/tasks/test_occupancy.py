"""The room's data: windows of ten minutes, split as published, and rooms that are made up."""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np
import pytest

from edgebench.errors import DataError
from edgebench.tasks.models import outputs_of
from edgebench.tasks.occupancy import COLUMNS, FILES, TASK
from edgebench.tasks.task import FitOptions
from tests.tasks.leftovers import strew

HEAD = ",".join(f'"{name}"' for name in ("Date", *COLUMNS, "Occupancy"))


def write(folder: Path, name: str, minutes: int) -> None:
    """Minute n has the temperature n, and somebody is there in odd ones."""
    rows = [f'"{n}","2015-02-02 14:19:00",{n},26.5,500,700,0.0047,{n % 2}' for n in range(minutes)]
    (folder / name).write_text("\n".join([HEAD, *(row.partition(",")[2] for row in rows)]))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    place = tmp_path / "occupancy"
    place.mkdir()
    for name, minutes in zip(FILES, (100, 40, 60), strict=True):
        write(place, name, minutes)
    strew(tmp_path)
    return place


def test_a_sample_is_ten_minutes_and_its_label_that_of_the_last(folder: Path) -> None:
    data = TASK.load(folder.parent, seed=0)
    assert data.real
    assert data.train.x.shape == (19, 10, 5)
    assert data.train.x[1, :, 0].tolist() == list(range(5, 15))
    assert data.train.y[:2].ravel().tolist() == [1.0, 0.0]
    assert [len(data.valid), len(data.test)] == [7, 11]


@pytest.mark.parametrize("prefix", ["", "occupancy_"])
def test_rows_may_begin_with_a_number_that_has_no_name_and_files_with_one_as_they_are_published(
    folder: Path, prefix: str
) -> None:
    named = TASK.load(folder, seed=0)
    for name in FILES:
        head, *rows = (folder / name).read_text().splitlines()
        (folder / name).write_text("\n".join([head, *(f'"{n}",{row}' for n, row in enumerate(rows, 1))]))
        (folder / name).rename(folder / f"{prefix}{name}")
    numbered = TASK.load(folder.parent, seed=0)
    assert np.array_equal(numbered.train.x, named.train.x)
    assert np.array_equal(numbered.test.y, named.test.y)


def test_a_row_that_is_cut_off_is_named(folder: Path) -> None:
    with (folder / FILES[2]).open("a") as file:
        file.write('\n"2015-02-02 14:19:00",61,26.5')
    with pytest.raises(DataError, match=r"datatest2.txt, line 62: not numbers in columns"):
        TASK.load(folder, seed=0)


def test_a_group_is_an_hour_and_stands_in_one_split(folder: Path) -> None:
    data = TASK.load(folder, seed=0)
    assert np.unique(data.train.group, return_counts=True)[1].tolist() == [12, 7]
    groups = [set(split.group.tolist()) for split in (data.train, data.valid, data.test)]
    assert not groups[0] & groups[1]
    assert not groups[1] & groups[2]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda path: path.unlink(), "missing; it belongs to"),
        (lambda path: path.write_bytes(path.read_text().encode("utf-16")), "line 1: a byte that is no UTF-8"),
        (lambda path: path.write_text("a,b\n1,2\n"), "no column 'Temperature'"),
        (lambda path: path.write_text(path.read_text().replace("26.5", "wet")), "line 2: Humidity is 'wet', no finite"),
        (lambda path: path.write_text(path.read_text().replace("500", "nan", 1)), "line 2: Light is 'nan', no finite"),
        (lambda path: path.write_text(path.read_text().replace("700", "1e39", 1)), "line 2: CO2 is '1e39', no finite"),
        (lambda path: path.write_text(HEAD + "\n"), "0 minutes, fewer than 10"),
    ],
)
def test_a_file_that_is_absent_or_broken_is_named(folder: Path, change: object, message: str) -> None:
    change(folder / FILES[1])  # type: ignore[operator]
    with pytest.raises(DataError, match=message) as caught:
        TASK.load(folder, seed=0)
    assert FILES[1] in str(caught.value)
    assert "\n" not in str(caught.value)


def test_made_up_rooms_repeat_with_their_seed_and_hold_both_answers() -> None:
    one, again, other = (TASK.load(None, seed=seed) for seed in (1, 1, 2))
    assert np.array_equal(one.train.x, again.train.x)
    assert not np.array_equal(one.train.x, other.train.x)
    assert 0.1 < one.train.y.mean() < 0.6
    assert not one.real


def test_both_sizes_learn_and_have_the_listed_numbers_of_parameters() -> None:
    data = TASK.load(None, seed=1)
    for size, info in TASK.models.items():
        model = TASK.fit(size, data, FitOptions(seed=1, epochs=1))
        assert isinstance(model, keras.Model)
        assert model.count_params() == info.parameters
        assert TASK.score(outputs_of(model, data.test.x), data.test.y)["auroc"] > 0.9
