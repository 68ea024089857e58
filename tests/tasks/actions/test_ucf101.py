"""UCF101 videos, made up by the test: every frame is of one colour, which tells which one it is."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from edgebench.errors import DataError
from edgebench.tasks import task_named
from edgebench.tasks.actions import ucf101
from tests.tasks.leftovers import strew

ACTIONS = ("Archery", "Bowling", "Surfing")


def write_video(path: Path, *, frames: int, width: int = 160, height: int = 120, blue: int = 0) -> None:
    """Frame i has red 10 · i, but for green bars, 16 pixels wide, at its left and right."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w", format="avi") as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.codec_context.qmin = stream.codec_context.qmax = 1
        for i in range(frames):
            pixels = np.full((height, width, 3), (10 * i, 0, blue), np.uint8)
            pixels[:, :16] = pixels[:, -16:] = (0, 255, 0)
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts, frame.time_base = i, Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three actions of ten groups of two videos; groups 1 and 2 are for the test."""
    folder = tmp_path_factory.mktemp("ucf101")
    lists = folder / "ucfTrainTestlist"
    lists.mkdir()
    (lists / "classInd.txt").write_text("".join(f"{i + 1} {name}\r\n" for i, name in enumerate(ACTIONS)))
    train, test = [], []
    for number, name in enumerate(ACTIONS):
        for group in range(1, 11):
            for clip in (1, 2):
                video = f"{name}/v_{name}_g{group:02}_c{clip:02}.avi"
                write_video(folder / "UCF-101" / video, frames=6, blue=100 * number)
                if group <= 2:
                    test.append(f"{video}\n")
                else:
                    train.append(f"{video} {number + 1}\n")
    (lists / "trainlist01.txt").write_text("".join(train))
    (lists / "testlist01.txt").write_text("".join(test))
    return folder


@pytest.fixture
def folder(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy whose lists may be changed."""
    monkeypatch.setenv("EDGEBENCH_CACHE", str(tmp_path / "cache"))
    (tmp_path / "UCF-101").symlink_to(made / "UCF-101")
    (tmp_path / "ucfTrainTestlist").mkdir()
    for file in (made / "ucfTrainTestlist").iterdir():
        (tmp_path / "ucfTrainTestlist" / file.name).write_bytes(file.read_bytes())
    return strew(tmp_path)


@pytest.mark.parametrize(("frames", "reds"), [(12, (20, 60, 100)), (3, (0, 10, 20)), (2, (0, 10, 10)), (1, (0, 0, 0))])
def test_frames_are_drawn_evenly_and_cut_to_their_middle_square(
    tmp_path: Path, frames: int, reds: tuple[int, int, int]
) -> None:
    write_video(tmp_path / "v.avi", frames=frames)
    found = ucf101.drawn(tmp_path / "v.avi")
    assert found.shape == (3, 112, 112, 3)
    assert found.dtype == np.uint8
    middle = found[:, 20:-20, 20:-20].astype(float).mean(axis=(1, 2))
    assert middle[:, 0] == pytest.approx(reds, abs=5)
    # 160 × 120 becomes 149 × 112: of the bars of 15 pixels the square loses all but the blur.
    assert found[..., 1].mean() < 8


def test_an_upright_video_is_cut_above_and_below(tmp_path: Path) -> None:
    write_video(tmp_path / "v.avi", frames=4, width=96, height=192)
    found = ucf101.drawn(tmp_path / "v.avi")
    assert found.shape == (3, 112, 112, 3)
    # The bars lie at its sides, 16 of 96 pixels, and stay.
    assert found[:, :, :14, 1].mean() > 200


def test_samples_follow_the_lists_and_no_group_is_in_two_splits(folder: Path) -> None:
    data = task_named("action-recognition").load(folder, seed=1)
    assert (data.source, data.real, data.natural_key) == ("UCF101", True, None)
    assert (data.spec.dtype, data.spec.shape) == ("uint8", (3, 112, 112, 3))
    assert [len(split) for split in (data.train, data.valid, data.test)] == [44, 4, 12]
    assert data.test.y[:, 0].tolist() == [0] * 4 + [1] * 4 + [2] * 4
    groups = [set(split.group.tolist()) for split in (data.train, data.valid, data.test)]
    assert [len(each) for each in groups] == [22, 2, 6]
    assert len(set.union(*groups)) == 30
    for split in (data.train, data.valid, data.test):
        blue = split.x[:, :, 56, 56, 2].mean(axis=1)
        assert blue == pytest.approx(100 * split.y[:, 0], abs=8)


def test_the_second_load_comes_from_the_cache_and_is_equal(folder: Path) -> None:
    first, second = ucf101.load(folder), ucf101.load(folder)
    assert len(list((folder / "cache").glob("ucf101-*.npz"))) == 1
    assert np.array_equal(first.train.x, second.train.x)


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("classInd.txt", None, "classInd.txt: missing"),
        ("testlist01.txt", None, "testlist01.txt: missing"),
        ("classInd.txt", "Archery\n", "classInd.txt, line 1: not a number and a name; fetch"),
        ("classInd.txt", "1 Archery\n\n2 Bowling alley\n", "classInd.txt, line 3: not a number and a name; fetch"),
        pytest.param("classInd.txt", "9" * 5000 + " Archery\n", "classInd.txt, line 1: not a number and", id="long"),
        ("classInd.txt", "1 Archery\n2 Bowling\n", "classInd.txt: no action 'Surfing'"),
        ("testlist01.txt", "", "no videos for test"),
        ("testlist01.txt", "Archery/v_Archery_g01_c09.avi\n", "v_Archery_g01_c09.avi: missing; put there UCF101"),
        ("testlist01.txt", "\nArchery/a.avi\n", "testlist01.txt, line 2: Archery/a.avi is not named v_Action_gNN_c"),
    ],
)
def test_broken_lists_are_named_with_the_mend(folder: Path, file: str, text: str | None, message: str) -> None:
    if text is None:
        (folder / "ucfTrainTestlist" / file).unlink()
    else:
        (folder / "ucfTrainTestlist" / file).write_text(text)
    with pytest.raises(DataError) as caught:
        ucf101.load(folder)
    assert message in str(caught.value)
    assert "https://www.crcv.ucf.edu/data/UCF101.php" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_no_video_is_named(tmp_path: Path) -> None:
    (tmp_path / "v.avi").write_bytes(b"RIFF nonsense")
    with pytest.raises(DataError, match=r"v\.avi: no video that can be read .*; fetch UCF101"):
        ucf101.drawn(tmp_path / "v.avi")
