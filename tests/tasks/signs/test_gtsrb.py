"""GTSRB as people have it: both layouts, their errors, and the splits."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgebench.errors import DataError
from edgebench.tasks import task_named
from edgebench.tasks.task import Dataset
from tests.tasks.leftovers import strew

TASK = task_named("sign-recognition")
HEADER = ("Width", "Height", "Roi.X1", "Roi.Y1", "Roi.X2", "Roi.Y2", "ClassId")
RED, BLUE = (200, 10, 20), (10, 20, 200)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEBENCH_CACHE", str(tmp_path / "cache"))


def draw(path: Path, label: int, size: tuple[int, int] = (40, 60)) -> None:
    """A red picture 40 wide and 60 high, with a blue sign of 20 × 30 whose green tells the class."""
    picture = np.full((60, 40, 3), RED, np.uint8)
    picture[15:45, 10:30] = (BLUE[0], label, BLUE[2])
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture).resize(size, Image.Resampling.NEAREST).save(path)


def row(label: int) -> list[object]:
    return [40, 60, 10, 15, 29, 44, label]


def write(path: Path, delimiter: str, header: list[str], rows: list[list[object]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [header, *([str(value) for value in row] for row in rows)]
    path.write_text("".join(delimiter.join(line) + "\n" for line in lines))


def published(folder: Path, *, training: str = "Final_Training/Images", table: str = "Final_Test") -> None:
    """Classes 0 and 1 with 9 tracks of 2 frames each, and 3 pictures to test on."""
    for label in (0, 1):
        place = folder / training / f"{label:05d}"
        names = [f"{track:05d}_{frame:05d}.ppm" for track in range(9) for frame in range(2)]
        for name in names:
            draw(place / name, label)
        write(place / f"GT-{label:05d}.csv", ";", ["Filename", *HEADER], [[name, *row(label)] for name in names])
    for number in range(3):
        draw(folder / f"Final_Test/Images/{number:05d}.ppm", number % 2, size=(80, 120))
    asked = [[f"{number:05d}.ppm", *row(number % 2)] for number in range(3)]
    write(folder / table / "GT-final_test.csv", ";", ["Filename", *HEADER], asked)
    strew(folder)


def mirrored(folder: Path) -> None:
    """The same, named as on Kaggle; class 42 for 1."""
    rows: list[list[object]] = []
    for label in (0, 42):
        for track in range(9):
            path = f"Train/{label}/{label:05d}_{track:05d}_00000.png"
            draw(folder / path, label)
            rows.append([*row(label), path])
    write(folder / "Train.csv", ",", [*HEADER, "Path"], rows)
    draw(folder / "Test/00000.png", 42)
    write(folder / "Test.csv", ",", [*HEADER, "Path"], [[*row(42), "Test/00000.png"]])
    strew(folder)


def check(data: Dataset, labels: set[int]) -> None:
    assert data.real
    for split in (data.train, data.valid, data.test):
        assert split.x.dtype == np.uint8
        assert split.x.shape[1:] == (32, 32, 3)
        # Nothing but the sign is in it (at its edge pixels mix), and it is of the class that the label says.
        signs = split.x[:, 1:-1, 1:-1].astype(int)
        assert np.abs(signs - [BLUE[0], 0, BLUE[2]])[..., [0, 2]].max() <= 1
        assert np.array_equal(signs[:, 15, 15, 1], split.y[:, 0].astype(int))
    assert set(data.train.y[:, 0].astype(int)) == set(data.valid.y[:, 0].astype(int)) == labels
    groups = [set(split.group.tolist()) for split in (data.train, data.valid, data.test)]
    assert len(set.union(*groups)) == sum(map(len, groups))
    # An eighth of 9 tracks, rounded up, is 2; every test picture is a group of its own.
    assert [len(group) for group in groups] == [14, 4, len(data.test)]


@pytest.mark.parametrize("table", ["Final_Test", "Final_Test/Images", ".", ".."])
@pytest.mark.parametrize("training", ["Final_Training/Images", "Training"])
def test_the_published_layout_is_cropped_to_its_signs_and_split_by_track(
    tmp_path: Path, training: str, table: str
) -> None:
    published(tmp_path / "data/GTSRB", training=training, table=table)
    data = TASK.load(tmp_path / "data", seed=0)
    check(data, {0, 1})
    assert data.source == "GTSRB"
    assert data.test.y[:, 0].tolist() == [0, 1, 0]
    again = TASK.load(tmp_path / "data", seed=7)
    assert np.array_equal(again.valid.group, data.valid.group)


def test_the_mirrored_layout_is_read_alike(tmp_path: Path) -> None:
    mirrored(tmp_path / "gtsrb-kaggle")
    check(TASK.load(tmp_path, seed=0), {0, 42})


def _edit(path: str, old: str, new: str) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        file = folder / path
        file.write_text(file.read_text().replace(old, new, 1))

    return edit


_TABLE = "Final_Training/Images/00000/GT-00000.csv"
_PICTURE = "Final_Training/Images/00000/00000_00000.ppm"


def _renamed(name: str) -> Callable[[Path], None]:
    """The first picture, in its folder and in the table."""

    def rename(folder: Path) -> None:
        (folder / _PICTURE).rename((folder / _PICTURE).with_stem(name))
        _edit(_TABLE, "00000_00000", name)(folder)

    return rename


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (lambda folder: (folder / _PICTURE).unlink(), "00000_00000.ppm: missing; its table lists it"),
        (lambda folder: (folder / _PICTURE).write_bytes(b"P6 nonsense"), "00000_00000.ppm: no picture"),
        (lambda folder: (folder / "Final_Test/GT-final_test.csv").unlink(), "GT-final_test.csv: missing"),
        (_edit(_TABLE, "Roi.X1", "X1"), "GT-00000.csv: no column 'Roi.X1'"),
        (_edit(_TABLE, ";60;", ";sixty;"), "GT-00000.csv, line 2: Height is 'sixty', no whole number; fetch"),
        pytest.param(_edit(_TABLE, ";60;", f";{'9' * 5000};"), "line 2: Height is '999", id="5,000 digits"),
        pytest.param(_edit(_TABLE, ";29;", f";{'9' * 400};"), "line 2: Roi.X2 is '999", id="400 digits"),
        (_renamed(f"{'9' * 20}_00000"), f"{'9' * 20}_00000.ppm: the name does not tell the track, as 0"),
        (_renamed("100000_00000"), "100000_00000.ppm: the name does not tell the track, as 0"),
        (_renamed("first_00000"), "first_00000.ppm: the name does not tell the track, as 0"),
        (_edit(_TABLE, ";29;", ";40;"), "line 2: the region of the sign is not in the picture of 40 × 60"),
        (_edit(_TABLE, ";44;0", ";44;43"), "line 2: class 43 is none of 0 to 42"),
        (_edit(_TABLE, ";44;0", ""), "GT-00000.csv, line 2: "),
    ],
)
def test_what_is_broken_is_named_in_a_line(tmp_path: Path, harm: Callable[[Path], None], message: str) -> None:
    published(tmp_path / "GTSRB")
    harm(tmp_path / "GTSRB")
    with pytest.raises(DataError) as caught:
        TASK.load(tmp_path, seed=0)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_empty_folder_says_what_to_put_there_and_whence(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        TASK.load(tmp_path, seed=0)
    assert str(caught.value).startswith(f"{tmp_path}: no data for sign-recognition; put there GTSRB (")
    assert "https://benchmark.ini.rub.de/" in str(caught.value)


def test_real_signs_keep_their_published_split_and_their_tracks_together(real_data: Path) -> None:
    data = TASK.load(real_data, seed=0)
    assert len(data.train) + len(data.valid) == 7_842
    assert len(data.test) == 4_000
    assert len(np.unique(np.concatenate([data.train.group, data.valid.group]))) == 1_307
    assert not set(data.train.group) & set(data.valid.group)
    for split in (data.train, data.valid, data.test):
        assert len(np.unique(split.y)) == 43
    # The first pictures that the table of the test set lists.
    assert data.test.y[:3, 0].tolist() == [16, 1, 38]
