"""MSR-Action3D text files, made up and real."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgebench.errors import DataError
from edgebench.tasks import task_named
from edgebench.tasks.actions import msr_action3d
from edgebench.tasks.actions.skeletons import JOINTS
from tests.tasks.leftovers import strew

HAND = JOINTS.index("right hand")
ZERO = "0 0 0 0\n" * 20


def frame(hand: float = 0.0) -> str:
    """20 lines as the camera's: the shoulder centre (line 3) is half a metre above the hip centre (line 7), and the
    right hand (line 12, which drawskt.m joins to line 1 by lines 10 and 8) `hand` metres beside it."""
    at = {3: (0.0, 0.5), 12: (hand, 0.0)}
    places = (at.get(line, (0.0, 0.0)) for line in range(1, 21))
    return "".join(f"{x + 0.2:.6f} {y - 0.1:.6f} 2.500000 1.000000\n" for x, y in places)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Actions 1 and 2 of people 1, 2 and 9, twice."""
    monkeypatch.setenv("EDGEBENCH_CACHE", str(tmp_path / "cache"))
    inside = tmp_path / "MSRAction3DSkeletonReal3D"
    inside.mkdir()
    for action in (1, 2):
        for person in (1, 2, 9):
            for take in (1, 2):
                text = "".join(frame(0.05 * action * i) for i in range(11))
                (inside / f"a{action:02}_s{person:02}_e{take:02}_skeleton3D.txt").write_text(text)
    return strew(tmp_path)


def test_people_are_in_one_split_each_and_sequences_in_one_group_each(folder: Path) -> None:
    data = msr_action3d.load(folder)
    assert (data.source, data.real, data.natural_key) == ("MSR-Action3D", True, "person")
    for split, person in ((data.train, 1), (data.valid, 9), (data.test, 2)):
        assert split.group.tolist() == [person * 10_000 + rest for rest in (101, 102, 201, 202)]
        assert split.key is not None
        assert split.key.tolist() == [person] * 4
        assert split.y.tolist() == [[0], [0], [1], [1]]


def test_a_sample_is_the_movement_of_the_joints_in_torsos(folder: Path) -> None:
    data = msr_action3d.load(folder)
    assert (data.spec.dtype, data.spec.shape) == ("uint8", (20, 48, 3))
    # Half a metre in the first action, which is one torso of 42 levels; a metre in the second.
    assert data.test.x[0, HAND, [0, -1]].tolist() == [[128, 128, 128], [170, 128, 128]]
    assert data.test.x[2, HAND, -1].tolist() == [212, 128, 128]


def test_frames_without_a_skeleton_and_sequences_with_hardly_any_are_left_out(folder: Path) -> None:
    inside = folder / "MSRAction3DSkeletonReal3D"
    whole = msr_action3d.load(folder)
    first, second, third = (inside / f"a0{n}_s02_skeleton3D.txt".replace("_sk", "_e01_sk") for n in (1, 2, 3))
    first.write_text(ZERO + first.read_text() + ZERO * 3)
    second.write_text(ZERO * 30 + frame() * 4)
    third.write_text(ZERO * 5)
    data = msr_action3d.load(folder)
    assert data.test.group.tolist() == [20_101, 20_102, 20_202]
    assert np.array_equal(data.test.x, whole.test.x[[0, 1, 3]])


def test_sequences_that_the_literature_leaves_out_are_not_even_read(folder: Path) -> None:
    (folder / "a13_s09_e02_skeleton3D.txt").write_text("nonsense")
    assert len(msr_action3d.load(folder).valid) == 4


def test_the_second_load_comes_from_the_cache_and_is_equal(folder: Path) -> None:
    first, second = msr_action3d.load(folder), msr_action3d.load(folder)
    assert len(list((folder / "cache").glob("msr-action3d-*.npz"))) == 1
    assert np.array_equal(first.train.x, second.train.x)
    assert np.array_equal(first.train.y, second.train.y)


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        (
            "a01_s01_e01_skeleton3D.txt",
            "0 0 0\n",
            "a01_s01_e01_skeleton3D.txt: not 20 lines of x y z confidence",
        ),
        ("a01_s01_e01_skeleton3D.txt", "", "a01_s01_e01_skeleton3D.txt: not 20 lines of x y z confidence"),
        ("a01_s01_e01_skeleton3D.txt", "0 0 0 1\n" * 19 + "0 0 0 nan\n", "line 20: a coordinate is 'nan', no finite"),
        (
            "a01_s01_e01_skeleton3D.txt",
            "0 0 0 1\n" * 19 + "0 1e300 0 1\n",
            "line 20: a coordinate is '1e300', no finite",
        ),
        ("a01_s01_e01_skeleton3D.txt", "1,2,3,4\n" * 20, "skeleton3D.txt, line 1: a coordinate is '1,2,3,4'"),
        ("a21_s01_e01_skeleton3D.txt", frame() * 9, "a21_s01_e01_skeleton3D.txt: no action of 1 to 20; take it away"),
    ],
)
def test_a_broken_file_is_named_with_the_mend(folder: Path, file: str, text: str, message: str) -> None:
    (folder / "MSRAction3DSkeletonReal3D" / file).write_text(text)
    with pytest.raises(DataError) as caught:
        msr_action3d.load(folder)
    assert message in str(caught.value)
    assert "https://wangjiangb.github.io" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_split_without_people_is_an_error(folder: Path) -> None:
    for file in folder.glob("*/*_s09_*"):
        file.unlink()
    with pytest.raises(DataError, match="no sequence of the people for valid; put there MSR-Action3D"):
        msr_action3d.load(folder)


def test_the_real_set_has_the_557_sequences_of_the_literature(
    real_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not (real_data / msr_action3d.FOLDER).is_dir():
        pytest.skip(f"no {msr_action3d.FOLDER} in {real_data}")
    monkeypatch.setenv("EDGEBENCH_CACHE", str(tmp_path))
    data = task_named("action-recognition").load(real_data, seed=1)
    assert data.source == "MSR-Action3D"
    assert [len(split) for split in (data.train, data.valid, data.test)] == [227, 57, 273]
    people = [np.unique(split.key).tolist() for split in (data.train, data.valid, data.test) if split.key is not None]
    assert people == [[1, 3, 5, 7], [9], [2, 4, 6, 8, 10]]
    assert len(np.unique(np.concatenate([data.train.group, data.valid.group, data.test.group]))) == 557
    assert np.unique(data.train.y).tolist() == np.unique(data.test.y).tolist() == list(range(20))
    # The head is above the hip, and nobody's hand is more than three torsos away from it.
    assert data.train.x[:, JOINTS.index("head"), :, 1].mean() > 170
    assert (data.train.x.min(), data.train.x.max()) > (0, 0)
    assert data.train.x.max() < 255
