"""Sensors that are fed: what a stream takes when a sample is due."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator

import numpy as np
import pytest

from device_agent.sensors.live import LiveSensor, Taken, ThreadFeed
from device_agent.sensors.own import Whole
from device_agent.sensors.rows import Rows
from edgebench.clock import NS_PER_S
from edgebench.core.samples import NothingSensedError
from edgebench.errors import EdgebenchError
from edgebench.inference.spec import TensorSpec
from tests.device_agent.sensors.feeding import WAIT_S

SPEC = TensorSpec("float32", (2,))


def sensor() -> LiveSensor:
    return LiveSensor("bed-0/vitals", SPEC, Whole(SPEC))


def why_nothing(of: LiveSensor) -> str:
    with pytest.raises(NothingSensedError) as nothing:
        of.capture()
    return nothing.value.reason


def test_a_stream_takes_the_newest_reading_again_until_there_is_a_newer_one() -> None:
    live = sensor()
    first: list[bool] = []
    live.on_first = lambda: first.append(True)
    assert why_nothing(live) == "no-reading"
    live.take([1.0, 2.0], 10)
    for _ in range(2):
        assert live.capture().x.tolist() == [1.0, 2.0]
        assert (live.capture().taken_ns, live.capture().label) == (10, None)
    live.take([3.0, 4.0], 20)
    assert (live.capture().x.tolist(), live.capture().taken_ns) == ([3.0, 4.0], 20)
    assert first == [True]


def test_a_reading_that_is_none_is_left_out_and_said() -> None:
    live = sensor()
    live.take([1.0], 10)
    assert why_nothing(live) == "no-reading"
    assert live.complaint == "an array [1], where a sample is [2]"
    live.take([1.0, 2.0], 20)
    live.take(["a", "b"], 30)
    assert live.capture().taken_ns == 20


@pytest.mark.parametrize(
    ("raised", "told"),
    [
        (EdgebenchError("unplugged"), "unplugged"),
        (ZeroDivisionError("by 0"), "ZeroDivisionError: by 0"),
        (None, "ended"),
    ],
)
def test_a_feed_that_ends_says_how_and_its_sensors_give_nothing_more(raised: Exception | None, told: str) -> None:
    def read(_over: threading.Event) -> Iterator[Taken]:
        yield np.zeros(2, np.float32), 1
        go_on.wait()
        if raised is not None:
            raise raised

    go_on, came, ended = threading.Event(), threading.Event(), queue.SimpleQueue[str]()
    feed = ThreadFeed("a feed", read)
    live = sensor()
    live.on_first = came.set
    feed.sensors.append(live)
    feed.start(ended.put)
    assert came.wait(WAIT_S)
    assert live.capture().x.tolist() == [0.0, 0.0]
    go_on.set()
    assert told in ended.get(timeout=WAIT_S)
    assert why_nothing(live) == "sensor-ended"


def test_a_feed_that_is_closed_has_not_failed() -> None:
    def read(over: threading.Event) -> Iterator[Taken]:
        over.wait()
        yield np.zeros(2, np.float32), 1

    ended = queue.SimpleQueue[str]()
    feed = ThreadFeed("a feed", read)
    feed.sensors.append(sensor())
    feed.start(ended.put)
    feed.close()
    assert ended.empty()
    assert not feed.sensors[0].has_ended


def test_a_window_that_fills_is_on_its_way_until_readings_stop_coming(monkeypatch: pytest.MonkeyPatch) -> None:
    """Steps of five minutes: silence is known after ten."""
    now_s = 0.0
    monkeypatch.setattr("device_agent.sensors.live.now_ns", lambda: round(now_s * NS_PER_S))
    spec = TensorSpec("float32", (3, 2))
    live = LiveSensor("room-0/occupied", spec, Rows(spec, ("warmth", "light")))
    assert not live.is_filling
    live.take(["cold", 1], 0)
    assert not live.is_filling, "that is no reading"
    now_s = 10.0
    live.take([1, 2], 0)
    assert live.is_filling
    now_s = 310.0
    live.take([1, 2], 0)
    assert live.is_filling
    now_s = 909.0
    assert live.is_filling
    now_s = 911.0
    assert not live.is_filling
    live.take([1, 2], 0)
    assert not live.is_filling, "there is a sample"
    assert live.capture().x.tolist() == [[1, 2]] * 3
