"""Pictures: FFmpeg's test source, and a file that FFmpeg has written."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from device_agent.sensors.camera import Camera, Pictures
from edgebench.clock import now_s
from edgebench.fabric.sensors import SensorError
from edgebench.inference.spec import TensorSpec
from tests.device_agent.sensors.feeding import WAIT_S, choice, read


def colour(width: int, height: int, left: int, right: int) -> av.VideoFrame:
    """A frame whose left and right halves have a grey each."""
    picture = np.full((height, width, 3), left, np.uint8)
    picture[:, width // 2 :] = right
    return av.VideoFrame.from_ndarray(picture, format="rgb24")


def clip(path: Path, frames: int, rate: int) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=Fraction(rate))
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for number in range(frames):
            frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), 50 * number, np.uint8), format="rgb24")
            for packet in stream.encode(frame):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)


def test_ffmpegs_test_source_comes_at_its_own_pace(tmp_path: Path) -> None:
    pictures = Pictures(TensorSpec("uint8", (96, 48, 3)))
    camera = Camera(choice("camera:lavfi:testsrc=size=320x240:rate=20", tmp_path))
    began_s = now_s()  # not when the first frame is noticed, which may be late
    with read(camera) as got:
        first = got.get(timeout=WAIT_S)
        rest = [got.get(timeout=WAIT_S) for _ in range(40)]
        took_s = now_s() - began_s
    assert took_s >= 2.0  # forty frames of 50 ms
    sample = pictures.sample(pictures.take(first))
    assert (sample.shape, str(sample.dtype)) == ((96, 48, 3), "uint8")
    assert sample.std() > 40  # bars of many colours
    assert any((pictures.sample(frame) != sample).any() for frame in rest)  # a clock runs in them


def test_a_file_is_played_over_and_over(tmp_path: Path) -> None:
    clip(tmp_path / "clip.mp4", frames=3, rate=25)
    gray = Pictures(TensorSpec("uint8", (8, 8, 1)))
    with read(Camera(choice("camera:clip.mp4", tmp_path))) as got:
        levels = [int(gray.sample(got.get(timeout=WAIT_S)).mean()) for _ in range(7)]
    assert levels[:3] == levels[3:6]
    assert levels[0] < levels[1] < levels[2]


def test_the_middle_of_a_frame_is_taken_undistorted() -> None:
    narrow = Pictures(TensorSpec("uint8", (100, 20, 3))).sample(colour(400, 200, left=0, right=200))
    # 40 of 400 columns, half of them left of the middle.
    assert (narrow.shape, int(narrow[:, :8].mean()), int(narrow[:, 12:].mean())) == ((100, 20, 3), 0, 200)
    whole = Pictures(TensorSpec("uint8", (4, 8, 1))).sample(colour(400, 200, left=0, right=200))
    assert whole.shape == (4, 8, 1)


def test_a_task_whose_samples_are_no_pictures_is_refused() -> None:
    with pytest.raises(SensorError, match=r"gives pictures, and a sample is float32 \[10, 5\]"):
        Pictures(TensorSpec("float32", (10, 5)))


def test_what_is_not_there_or_no_video_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SensorError, match="there is no"):
        Camera(choice("camera:/dev/video99", tmp_path))
    (tmp_path / "text.mp4").write_text("no video\n" * 100)
    with read(Camera(choice("camera:text.mp4", tmp_path))) as got:
        assert isinstance(got.get(timeout=WAIT_S), SensorError)


def test_packets_that_cannot_be_decoded_are_left_out(tmp_path: Path) -> None:
    """Pictures one after another, as some cameras send them, of which one is broken."""
    packets: list[bytes] = []
    with av.open(str(tmp_path / "whole.mjpeg"), "w", format="mjpeg") as container:
        stream = container.add_stream("mjpeg", rate=Fraction(25))
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuvj420p"
        for number in range(4):
            frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), 60 * number, np.uint8), format="rgb24")
            packets += [bytes(packet) for packet in stream.encode(frame)]
    broken = packets[1][:2] + bytes(len(packets[1]) - 4) + packets[1][-2:]
    (tmp_path / "broken.mjpeg").write_bytes(b"".join((packets[0], broken, *packets[2:])))
    gray = Pictures(TensorSpec("uint8", (8, 8, 1)))
    with read(Camera(choice("camera:broken.mjpeg", tmp_path))) as got:
        levels = [round(int(gray.sample(got.get(timeout=WAIT_S)).mean()) / 60) for _ in range(3)]
    assert levels == [0, 2, 3]
