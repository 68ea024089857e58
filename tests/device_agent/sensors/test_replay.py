"""Which samples a device streams."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from device_agent.sensors.replay import Replay, StreamFile
from edgebench.errors import FabricError
from edgebench.fabric.slices import Share


def stream(directory: Path, groups: list[int]) -> StreamFile:
    n = len(groups)
    np.save(directory / "x.npy", np.arange(n * 2, dtype=np.float32).reshape(n, 2))
    np.save(directory / "y.npy", np.arange(n, dtype=np.float32).reshape(n, 1))
    np.save(directory / "group.npy", np.array(groups, np.int64))
    return StreamFile(directory)


def test_devices_share_the_patients_out_and_none_is_left(tmp_path: Path) -> None:
    file = stream(tmp_path, [5, 5, 8, 9, 9, 9])
    assert file.rows_of(Share(0, 2)).tolist() == [0, 1, 3, 4, 5]
    assert file.rows_of(Share(1, 2)).tolist() == [2]


def test_more_devices_than_patients_go_round_them(tmp_path: Path) -> None:
    file = stream(tmp_path, [1, 2])
    assert [file.rows_of(Share(index, 5)).tolist() for index in range(5)] == [[0], [1], [0], [1], [0]]


def test_a_sensor_goes_round_its_samples_with_their_labels(tmp_path: Path) -> None:
    sensor = Replay(stream(tmp_path, [1, 2, 1]), Share(0, 2))
    captured = [sensor.capture() for _ in range(3)]
    assert [(each.x.tolist(), np.frombuffer(each.label or b"", np.float32).tolist()) for each in captured] == [
        ([0.0, 1.0], [0.0]),
        ([4.0, 5.0], [2.0]),
        ([0.0, 1.0], [0.0]),
    ]


def test_an_empty_stream_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FabricError, match="no sample"):
        stream(tmp_path, []).rows_of(Share(0, 1))
