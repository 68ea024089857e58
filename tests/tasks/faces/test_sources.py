"""Folders of people: ORL's, Labeled Faces in the Wild, one's own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgebench.errors import DataError
from edgebench.tasks import task_named
from edgebench.tasks.faces.labels import PAIR, pairs_of
from edgebench.tasks.faces.sources import read_pairs
from tests.tasks.leftovers import strew

TASK = task_named("face-recognition")


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEBENCH_CACHE", str(tmp_path_factory.mktemp("cache")))


def _picture(path: Path, *, mode: str = "L", level: int = 100) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, (48, 56), level if mode == "L" else (level, 0, 0)).save(path)


def _orl(folder: Path, people: int) -> None:
    for person in range(1, people + 1):
        for number in (1, 2, 10):
            _picture(folder / f"s{person}" / f"{number}.pgm", level=person)
    strew(folder)


def test_people_are_in_one_split_each_by_their_names(tmp_path: Path) -> None:
    _orl(tmp_path / "orl-faces", 24)
    data = TASK.load(tmp_path, seed=0)
    assert (data.source, data.real, data.features) == ("ORL faces", True, ("grey",))
    assert data.spec.shape == (56, 48, 1)
    people = {name: set(getattr(data, name).group.tolist()) for name in ("train", "valid", "test")}
    assert {name: len(found) for name, found in people.items()} == {"train": 10, "valid": 4, "test": 10}
    assert len(set.union(*people.values())) == 24
    # Each has three pictures, all as bright as the person's number.
    assert len(data.test) == 30
    for person in people["test"]:
        assert len(np.unique(data.test.x[data.test.group == person])) == 1
    again = TASK.load(tmp_path / "orl-faces", seed=5)
    assert np.array_equal(again.test.x, data.test.x)


def test_ones_own_people_are_found_in_faces_in_colour(tmp_path: Path) -> None:
    for person in range(20):
        _picture(tmp_path / "faces" / f"person {person}" / "a.jpg", mode="RGB")
    (tmp_path / "faces" / "nobody").mkdir()
    strew(tmp_path)
    data = TASK.load(tmp_path, seed=0)
    assert data.source == "a folder of people"
    assert data.spec.shape == (56, 48, 3)
    assert len(data.test) == 10


def test_a_person_with_very_many_pictures_does_not_outweigh_the_others(tmp_path: Path) -> None:
    _orl(tmp_path, 20)
    for number in range(60):
        _picture(tmp_path / "s1" / f"{number:03d}.pgm")
    data = TASK.load(tmp_path, seed=0)
    counts = np.concatenate([np.bincount(s.group, minlength=20) for s in (data.train, data.valid, data.test)])
    assert sorted(counts[counts > 0].tolist()) == [3] * 19 + [50]


def _message(data: Path) -> str:
    with pytest.raises(DataError) as caught:
        TASK.load(data, seed=0)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_what_cannot_be_used_is_named(tmp_path: Path) -> None:
    assert "no data for face-recognition; put there Labeled Faces in the Wild" in _message(tmp_path)
    _orl(tmp_path / "orl-faces", 19)
    assert "orl-faces: pictures of 19 people; it takes 20" in _message(tmp_path)
    (tmp_path / "orl-faces" / "s20").mkdir()
    (tmp_path / "orl-faces" / "s20" / "1.pgm").write_text("P5")
    assert "s20/1.pgm: no picture that can be read" in _message(tmp_path)


FOLDS, EACH = 10, 2


def _lfw(folder: Path) -> list[str]:
    """Ten folds of two same and two different pairs, each with four people of its own, and twelve people in none."""
    lines = [f"{FOLDS}\t{EACH}"]
    for fold in range(FOLDS):
        names = [f"Fold_{fold}_{letter}" for letter in "abcd"]
        lines += [f"{name}\t1\t2" for name in names[:EACH]]
        lines += [f"{names[0]}\t1\t{names[2]}\t1", f"{names[1]}\t2\t{names[3]}\t1"]
        for name in names:
            for number in (1, 2):
                _picture(folder / name / f"{name}_{number:04d}.jpg", mode="RGB", level=10 * fold)
    for person in range(12):
        _picture(folder / f"Other_{person}" / f"Other_{person}_0001.jpg", mode="RGB")
    (folder / "pairs.txt").write_text("\n".join(lines) + "\n")
    strew(folder)
    return lines


def test_lfw_tests_on_the_listed_pairs_of_its_last_folds(tmp_path: Path) -> None:
    _lfw(tmp_path / "lfw")
    data = TASK.load(tmp_path, seed=0)
    assert data.source == "Labeled Faces in the Wild"
    assert data.spec.shape == (56, 48, 3)
    # Five folds of four pairs of two pictures each.
    assert len(data.test) == 5 * 4 * 2
    pairs = pairs_of(data.test.y)
    assert pairs.fold.tolist() == np.repeat([5, 6, 7, 8, 9], 4).tolist()
    assert pairs.same.tolist() == [True, True, False, False] * 5
    # Red tells the fold, but for what JPEG takes away.
    assert data.test.x[pairs.first, 28, 24, 0] == pytest.approx(10 * pairs.fold, abs=3)
    # All others are learned from, or held out for valid: 20 people of two pictures and 12 of one.
    assert len(data.train) + len(data.valid) == 20 * 2 + 12
    people = [set(split.group.tolist()) for split in (data.train, data.valid, data.test)]
    assert len(set.union(*people)) == sum(map(len, people)) == 20 + 12 + 20
    assert (data.train.y[:, PAIR:] == -1).all()


@pytest.mark.parametrize("inside", ["lfw_funneled", "lfw"])
def test_the_list_of_pairs_may_stand_beside_the_folder_of_the_people(tmp_path: Path, inside: str) -> None:
    _lfw(tmp_path / "lfw_home" / inside)
    (tmp_path / "lfw_home" / inside / "pairs.txt").rename(tmp_path / "lfw_home" / "pairs.txt")
    data = TASK.load(tmp_path, seed=0)
    assert data.source == "Labeled Faces in the Wild"
    assert [len(data.test), len(data.train) + len(data.valid)] == [5 * 4 * 2, 20 * 2 + 12]


def test_lfw_without_its_list_is_a_folder_of_people(tmp_path: Path) -> None:
    _lfw(tmp_path)
    (tmp_path / "pairs.txt").unlink()
    _picture(tmp_path / "Aaron_Eckhart" / "Aaron_Eckhart_0001.jpg", mode="RGB")
    data = TASK.load(tmp_path, seed=0)
    assert data.source == "Labeled Faces in the Wild"
    assert data.test.y.shape == (len(data.test), 2)
    assert len(np.unique(data.test.group)) == round(53 / 3)


def test_a_broken_list_of_pairs_says_where(tmp_path: Path) -> None:
    lines = _lfw(tmp_path)
    listed = tmp_path / "pairs.txt"
    assert len(read_pairs(listed)) == 40
    for broken, message in (
        (["ten"], "pairs.txt: line 1 is not the number of folds and of pairs"),
        (["9" * 5000 + " 2"], "pairs.txt: line 1 is not the number of folds and of pairs"),
        ([*lines[:2], "Fold_0_a\t1\t" + "9" * 5000, *lines[3:]], "pairs.txt: line 3 is no pair"),
        (lines[:-1], "pairs.txt: 39 pairs, not 10 × 2 × 2, as line 1 says"),
        ([*lines[:2], "Fold_0_a\tone\t2", *lines[3:]], "pairs.txt: line 3 is no pair"),
        ([*lines[:2], "", "Fold_0_a\tone\t2", *lines[3:]], "pairs.txt: line 4 is no pair"),
        ([*lines[:-1], "Fold_9_b\t2\tFold_9_d\t7"], "Fold_9_d_0007.jpg: missing, and pairs.txt lists it"),
    ):
        listed.write_text("\n".join(broken))
        assert message in _message(tmp_path)


def test_the_real_orl_faces_are_thirty_people_of_ten_pictures(real_data: Path) -> None:
    data = TASK.load(real_data, seed=1)
    assert data.source == "ORL faces"
    assert [len(split) for split in (data.train, data.valid, data.test)] == [150, 50, 100]
    assert [len(np.unique(split.group)) for split in (data.train, data.valid, data.test)] == [15, 5, 10]
    # Pixels alone already tell most people apart.
    found = TASK.baseline(data, seed=0)
    assert found.name == "cosine of pixels less their mean"
    assert found.metrics["auc"] == pytest.approx(0.937, abs=0.002)
