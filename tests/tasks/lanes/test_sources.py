"""The layouts: TuSimple with and without its pictures, labelled frames, plain video."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgebench.errors import DataError
from edgebench.tasks import task_named
from edgebench.tasks.lanes import labelled
from edgebench.tasks.lanes.geometry import ABSENT, FRAME, LANES, ROWS, lanes_of
from edgebench.tasks.task import Dataset
from tests.tasks.leftovers import strew


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEBENCH_CACHE", str(tmp_path / "cache"))


def load(data: Path) -> Dataset:
    return task_named("lane-detection").load(data, seed=0)


def refusal(data: Path) -> str:
    with pytest.raises(DataError) as caught:
        load(data)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def line(recording: str, clip: int, x: float = 600, first: int = 240) -> str:
    rows = list(range(first, 711, 10))
    lanes = [[-2] + [x - 0.8 * (y - 240) for y in rows[1:]], [x + 0.8 * (y - 240) for y in rows[:-1]] + [-2]]
    frame = {"lanes": lanes, "h_samples": rows, "raw_file": f"clips/{recording}/{clip}/20.jpg"}
    return json.dumps(frame) + "\n"


def write_set(folder: Path) -> Path:
    """Four frames to train on, one to choose by, two to test on."""
    folder.mkdir(parents=True)
    (folder / "label_data_0313.json").write_text("".join(line("0313-1", clip) for clip in range(4)))
    (folder / "label_data_0531.json").write_text(line("0531", 1, first=160))
    (folder / "test_label.json").write_text(line("0530", 1, first=160) + line("0601", 2, first=160))
    strew(folder)
    return folder


def test_an_empty_folder_says_what_to_put_there_and_whence(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    message = refusal(tmp_path / "empty")
    assert (
        "no data for lane-detection; put there the TuSimple lane benchmark (Apache-2.0, https://github.com/" in message
    )
    assert "N_inst.png" in message
    assert "*.mp4" in message


def test_labels_without_pictures_are_drawn_and_the_source_says_so(tmp_path: Path) -> None:
    write_set(tmp_path / "lanes" / "tusimple")
    data = load(tmp_path)
    assert (data.source, data.real) == ("drawn from the real TuSimple geometry", False)
    assert [len(split) for split in (data.train, data.valid, data.test)] == [4, 1, 2]
    assert data.train.x.shape == (4, *FRAME, 3)
    assert data.natural_key == "recording"
    assert data.test.key is not None
    assert data.test.key.tolist() == [530, 601]
    # Rows above 240 are not labelled in some recordings: nothing is there.
    lane = lanes_of(data.train.y)[0, 0]
    assert (lane[ROWS < 250] == ABSENT).all()
    assert lane[ROWS >= 250] == pytest.approx(600 - 0.8 * (ROWS[ROWS >= 250] - 240))
    again = task_named("lane-detection").load(tmp_path, seed=5)
    assert np.array_equal(again.test.x, data.test.x)


def test_labels_with_their_pictures_are_real_in_the_folders_as_downloaded(tmp_path: Path) -> None:
    folder = write_set(tmp_path / "tusimple")
    (folder / "train_set").mkdir()
    for path in folder.glob("label_data*.json"):
        path.rename(folder / "train_set" / path.name)
    for recording, clip, grey in (
        ("0313-1", 0, 10),
        ("0313-1", 1, 20),
        ("0313-1", 2, 30),
        ("0313-1", 3, 40),
        ("0531", 1, 50),
    ):
        _picture(folder / "train_set" / "clips" / recording / str(clip) / "20.jpg", grey)
    _picture(folder / "test_set" / "clips" / "0530" / "1" / "20.jpg", 60)
    assert refusal(tmp_path).startswith(f"{folder / 'clips/0601/2/20.jpg'}: missing; it belongs to the TuSimple")
    _picture(folder / "test_set" / "clips" / "0601" / "2" / "20.jpg", 70)
    data = load(tmp_path)
    assert (data.source, data.real) == ("TuSimple", True)
    assert data.train.x[:, 0, 0, 0].tolist() == [10, 20, 30, 40]
    assert data.valid.x[:, 0, 0, 0].tolist() == [50]
    assert data.test.x[:, 0, 0, 0].tolist() == [60, 70]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "label_data_0313.json: line 2: "),
        pytest.param('{"x": ' + "[" * 100_000, "label_data_0313.json: line 2: nested too deeply", id="deep"),
        (b'{"raw_file": "caf\xe9"}', "label_data_0313.json, line 2: a byte that is no UTF-8; convert the file"),
        ('{"lanes": [[1, 2]], "h_samples": [160], "raw_file": "clips/a/b/20.jpg"}', "line 2: a lane has not as many"),
        (
            '{"lanes": [[1]], "h_samples": [165], "raw_file": "clips/a/b/20.jpg"}',
            "line 2: h_samples are not of 160 to 710",
        ),
        (
            '{"lanes": [[1]], "h_samples": [160], "raw_file": "20.jpg"}',
            "line 2: raw_file '20.jpg' is not clips/RECORDING",
        ),
        (line("9" * 20, 1), f"line 2: recording '{'9' * 20}' has a number beyond 64 bits; fetch it again"),
        (line("0313-1", 1, x=1e300), "line 2: Expected `float` <= 3.4e+38 - at `$.lanes"),
    ],
)
def test_a_broken_line_is_named(tmp_path: Path, text: str | bytes, message: str) -> None:
    folder = write_set(tmp_path / "tusimple")
    broken = text if isinstance(text, bytes) else text.encode()
    (folder / "label_data_0313.json").write_bytes(line("0313-1", 1).encode() + broken + b"\n")
    assert message in refusal(tmp_path)


def test_a_recording_without_a_number_has_the_key_0(tmp_path: Path) -> None:
    folder = write_set(tmp_path / "lanes" / "tusimple")
    strange = line("0601", 2, first=160).replace("/2/20.jpg", "/\u00b2/20.jpg")
    (folder / "test_label.json").write_text(line("rain", 1, first=160) + strange, "utf-8")
    key = load(tmp_path).test.key
    assert key is not None
    assert key.tolist() == [0, 601]


def test_labels_may_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    folder = write_set(tmp_path / "tusimple")
    for file in folder.glob("[lt]*.json"):
        file.write_text("\ufeff" + file.read_text(), "utf-8")
    data = load(tmp_path)
    assert [len(split) for split in (data.train, data.valid, data.test)] == [4, 1, 2]


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    folder = write_set(tmp_path / "tusimple")
    (folder / "label_data_0531.json").unlink()
    assert refusal(tmp_path).startswith(f"{folder}: no frames for the split valid in its labels; ")
    (folder / "test_label.json").unlink()
    assert refusal(tmp_path).startswith(f"{folder / 'test_label.json'}: missing; ")


def test_masks_give_lanes_at_the_rows_of_the_benchmark(tmp_path: Path) -> None:
    for number in range(10):
        _labelled(tmp_path, number)
    data = load(strew(tmp_path))
    assert (data.source, data.real) == ("labelled frames with instance masks", True)
    assert [split.x[0, 0, 0, 0] for split in (data.train, data.valid, data.test)] == [0, 50, 70]
    assert [len(split) for split in (data.train, data.valid, data.test)] == [5, 2, 3]
    lanes = lanes_of(data.test.y)[0]
    # Pixels 99 to 101 have their middle at 100.5, which is 201 of 1280.
    assert lanes[0][ROWS >= 240] == pytest.approx(201)
    assert lanes[1][ROWS >= 400] == pytest.approx(804)
    assert (lanes[0][ROWS < 240] == ABSENT).all()
    (tmp_path / "3.jpg").unlink()
    assert refusal(tmp_path).startswith(f"{tmp_path / '3.jpg'}: missing; 3_inst.png is its mask")


def test_three_labelled_frames_cannot_be_split(tmp_path: Path) -> None:
    for number in range(3):
        _picture(tmp_path / f"{number}.jpg", 9)
        Image.fromarray(np.full((8, 8), 20, np.uint8)).save(tmp_path / f"{number}_inst.png")
    assert refusal(tmp_path).startswith(f"{tmp_path}: 3 labelled frames; 4 are the fewest")


def test_a_video_is_a_stream_without_labels(tmp_path: Path) -> None:
    import av

    with av.open(str(tmp_path / "drive.mp4"), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 320, 160, "yuv420p"
        for level in (20, 200, 20):
            frame = av.VideoFrame.from_ndarray(np.full((160, 320, 3), level, np.uint8), format="rgb24")
            for packet in stream.encode(frame):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
    _picture(tmp_path / "still.jpg", 90)
    data = load(strew(tmp_path))
    assert data.source == "road video without labels, models of generated roads"
    assert not data.real
    assert data.test.x.shape == (4, *FRAME, 3)
    assert data.test.x.mean((1, 2, 3)) == pytest.approx([20, 200, 20, 90], abs=6)
    assert data.test.y.shape == (4, LANES * 56)
    assert (data.test.y == ABSENT).all()
    assert len(set(data.test.group)) == 2
    assert not set(data.test.group) & (set(data.train.group) | set(data.valid.group))
    (tmp_path / "drive.mp4").write_bytes(b"no video")
    assert "drive.mp4: no video that can be read" in refusal(tmp_path)


def test_the_real_labels_are_all_read(real_data: Path) -> None:
    folder = real_data / "lanes" / "tusimple"
    if not folder.is_dir():
        pytest.skip(f"no {folder}")
    from edgebench.tasks.lanes.tusimple import read_labels

    labels = read_labels(folder)
    assert {name: len(frames.labels) for name, frames in labels.items()} == {
        "train": 3_268,
        "valid": 358,
        "test": 2_782,
    }
    assert not set(labels["train"].clips) & set(labels["test"].clips)
    assert not set(labels["valid"].clips) & set(labels["test"].clips)
    lanes = (lanes_of(labels["test"].labels) >= 0).any(2).sum(1)
    assert np.bincount(lanes).tolist() == [0, 0, 5, 1_740, 468, 569]


def test_the_real_frames_have_four_lanes_or_five(real_data: Path) -> None:
    folder = real_data / "lanes" / "tusimple-labelled"
    if not folder.is_dir():
        pytest.skip(f"no {folder}")
    x, y, names = labelled.read(folder)
    assert (x.shape, names) == ((6, *FRAME, 3), ["0", "1", "2", "3", "4", "5"])
    assert (lanes_of(y) >= 0).any(2).sum(1).tolist() == [4, 4, 4, 5, 4, 4]


def test_photographs_are_a_further_test_set_and_their_road_is_not_learned_from(
    tmp_path: Path,
) -> None:
    shown_ns, earlier_ns = 1_494_453_497_604_532_231, 1_494_453_400_000_000_000
    folder = write_set(tmp_path / "tusimple")
    more = [line("0601", shown_ns, x=500), line("0601", earlier_ns, x=520), line("0313-1", shown_ns, x=540)]
    (folder / "label_data_0601.json").write_text("".join(more))
    alone = load(tmp_path)
    # All but what was taken where and when the photographs were.
    assert (len(alone.train), dict(alone.beside)) == (6, {})
    assert alone.train.key is not None
    assert alone.train.key.tolist() == [3131] * 4 + [601, 3131]
    for number in range(2):
        _labelled(tmp_path / "tusimple-labelled", number)
    both = load(tmp_path)
    assert list(both.beside) == ["2 real labelled frames"]
    (beside,) = both.beside.values()
    assert (lanes_of(beside.y) >= 0).any(2).sum(1).tolist() == [2, 2]
    assert np.array_equal(both.train.x, alone.train.x)
    found = task_named("lane-detection").baseline(both, seed=0)
    assert set(found.beside) == {"2 real labelled frames"}
    assert found.beside["2 real labelled frames"].keys() == found.metrics.keys()


def _labelled(folder: Path, number: int) -> None:
    """A photograph with two lanes."""
    _picture(folder / f"{number}.jpg", 10 * number)
    mask = np.zeros((360, 640), np.uint8)
    mask[120:, 99:102] = 20
    mask[200:, 400:404] = 70
    Image.fromarray(mask).save(folder / f"{number}_inst.png")


def _picture(path: Path, grey: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((72, 128, 3), grey, np.uint8)).save(path, quality=95)
