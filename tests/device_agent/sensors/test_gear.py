"""Gear that speaks MQTT in its own way, through a real broker."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from device_agent.sensors.gear import Gear
from device_agent.sensors.live import LiveSensor
from device_agent.sensors.rows import Rows
from edgebench.clock import now_s
from edgebench.fabric.brokers import BrokerSettings, make_broker
from edgebench.fabric.endpoints import parse_broker_url
from edgebench.fabric.mqtt import Connection
from edgebench.fabric.reactor import Reactor
from edgebench.fabric.sensors import SensorError
from edgebench.inference.spec import TensorSpec
from tests.device_agent.sensors.feeding import WAIT_S, choice

SPEC = TensorSpec("float32", (2,))
NAMES = ("warmth", "light")


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with make_broker(BrokerSettings("house", tmp_path_factory.mktemp("broker"))) as running:
        yield running.url


class Nested:
    """A list in a list in a list …"""

    def __init__(self, deep: int) -> None:
        self.text = "[" * deep + "]" * deep


class House:
    """A feed of gear, and whoever publishes in its name."""

    def __init__(self, reactor: Reactor, broker: str, gear: Gear) -> None:
        self.reactor = reactor
        self.failed: list[str] = []
        self.sensor = LiveSensor("room-0", SPEC, Rows(SPEC, NAMES))
        gear.sensors.append(self.sensor)
        self._gear = gear
        up: list[bool] = []
        self._publisher = Connection(
            reactor, parse_broker_url(broker), "gear", on_message=lambda *_: None, on_up=lambda: up.append(True)
        )
        self._publisher.start()
        self.until(lambda: bool(up))
        gear.start(self.failed.append)

    def publish_until(self, happened: Callable[[], bool], **messages: Any) -> None:
        """Again and again, as gear does: it is not known when a subscription stands."""
        until_s = now_s() + WAIT_S
        while not happened():
            assert now_s() < until_s, "did not happen"
            for topic, message in messages.items():
                text = message.text if isinstance(message, Nested) else json.dumps(message)
                self._publisher.publish(topic.replace("__", "/"), text.encode(), qos=0)
            self.reactor.call_later(0.02, lambda: None)
            self.reactor.turn()

    def until(self, happened: Callable[[], bool]) -> None:
        self.publish_until(happened)

    def sensed(self) -> list[float] | None:
        return None if self.sensor._newest is None else self.sensor.capture().x.tolist()

    def close(self) -> None:
        self._gear.close()
        self._publisher.close()


@contextmanager
def house(folder: Path, broker: str, text: str) -> Iterator[House]:
    (folder / "gear.yaml").write_text(text.replace("BROKER", broker))
    reactor = Reactor()
    made = House(reactor, broker, Gear(choice("mqtt:gear.yaml", folder), "room-0", reactor, "reads"))
    try:
        yield made
    finally:
        made.close()
        reactor.close()


def test_messages_of_zigbee2mqtt_become_samples(tmp_path: Path, broker: str) -> None:
    text = """
broker: BROKER
topic: zigbee2mqtt/{device}
devices: {room-0: office}
features: {warmth: temperature, light: illuminance}
"""
    with house(tmp_path, broker, text) as made:
        message = {"temperature": 21.5, "illuminance": 300, "battery": 97, "linkquality": 120}
        made.publish_until(lambda: made.sensed() == [21.5, 300.0], zigbee2mqtt__office=message, zigbee2mqtt__hall={})
        made.publish_until(lambda: made.sensed() == [22.0, 300.0], zigbee2mqtt__office={**message, "temperature": 22})
        assert made.failed == []


def test_features_of_several_topics_make_a_step_once_each_has_come_anew(tmp_path: Path, broker: str) -> None:
    text = """
broker: BROKER
features:
  warmth: {topic: tele/+/SENSOR, path: AM2301.Temperature, scale: 0.5, offset: 1}
  light: {topic: stat/lamp/POWER, path: "@"}
"""
    with house(tmp_path, broker, text) as made:
        made.publish_until(
            lambda: made.sensed() == [11.0, 1.0],
            tele__a__SENSOR={"AM2301": {"Temperature": 20}},
            stat__lamp__POWER="ON",
        )
        assert made.sensor.complaint == ""


def test_held_values_are_a_step_each_so_many_seconds(tmp_path: Path, broker: str) -> None:
    text = "{broker: BROKER, topic: t, every_s: 0.05, features: {warmth: a, light: b}}"
    with house(tmp_path, broker, text) as made:
        made.publish_until(lambda: made.sensed() == [1.0, 2.0], t={"a": 1, "b": 2})
        newest = made.sensor._newest
        made.until(lambda: made.sensor._newest is not newest)
        assert made.sensed() == [1.0, 2.0]


def test_a_value_that_is_no_number_is_said(tmp_path: Path, broker: str) -> None:
    text = "{broker: BROKER, topic: t, features: {warmth: a, light: b}}"
    with house(tmp_path, broker, text) as made:
        made.publish_until(lambda: bool(made.sensor.complaint), t={"a": "warm", "b": 2})
        assert made.sensor.complaint == "t: warmth is 'warm', which is no number"
        assert made.sensed() is None


@pytest.mark.parametrize(
    ("message", "why"),
    [
        ({"a": None, "b": 2}, "t: warmth cannot be found: "),
        ({"a": [1], "b": 2}, "t: warmth cannot be found: "),
        ({"a": 1, "b": 10**400}, "t: light is '1000"),
    ],
)
def test_a_message_that_the_path_cannot_take_is_said_and_the_next_one_is_read(
    tmp_path: Path, broker: str, message: Any, why: str
) -> None:
    text = "{broker: BROKER, topic: t, features: {warmth: abs(a), light: b}}"
    with house(tmp_path, broker, text) as made:
        made.publish_until(lambda: bool(made.sensor.complaint), t=message)
        assert made.sensor.complaint.startswith(why)
        made.publish_until(lambda: made.sensed() == [1.0, 2.0], t={"a": -1, "b": 2})
        assert made.failed == []


def test_a_message_that_is_nested_too_deeply_is_no_reading(tmp_path: Path, broker: str) -> None:
    with house(tmp_path, broker, "{broker: BROKER, topic: t, features: {warmth: '@', light: '@'}}") as made:
        made.publish_until(lambda: bool(made.sensor.complaint), t=Nested(100_000))
        assert "which is no number" in made.sensor.complaint
        made.publish_until(lambda: made.sensed() == [1.0, 1.0], t=1)


def test_held_values_are_as_old_as_the_oldest_of_them(tmp_path: Path, broker: str) -> None:
    text = "{broker: BROKER, every_s: 0.05, features: {warmth: {topic: a, path: '@'}, light: {topic: b, path: '@'}}}"
    with house(tmp_path, broker, text) as made:
        made.publish_until(lambda: made.sensed() == [1.0, 2.0], a=1, b=2)
        first_ns = made.sensor.capture().taken_ns
        assert first_ns is not None
        made.publish_until(lambda: made.sensed() == [1.0, 3.0], b=3)
        again_ns = made.sensor.capture().taken_ns
        assert again_ns is not None
        made.publish_until(lambda: made.sensed() == [1.0, 4.0], b=4)
        assert made.sensor.capture().taken_ns == again_ns
        made.publish_until(lambda: made.sensed() == [5.0, 4.0], a=5)
        newest_ns = made.sensor.capture().taken_ns
        assert newest_ns is not None
        assert newest_ns > again_ns >= first_ns


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("{broker: 'mqtt://h', topic: t, features: {}}", "names none"),
        ("{broker: 'mqtt://h', features: {a: b}}", "features.a has no topic"),
        ("{broker: 'http://h', topic: t, features: {a: b}}", "neither mqtt nor mqtts"),
        ("{broker: 'mqtt://h', topic: t, features: {a: '[['}}", "features.a: '\\[\\[' is no path"),
        ("{broker: 'mqtt://h', topic: t, feature: {a: b}}", "feature"),
        ("{broker: 'mqtt://h', topic: t, every_s: 0, features: {a: b}}", "every_s is 0"),
        ("broker: [", "line 1: expected the node content"),
        ("hello", "expected a mapping of fields, got text"),
        ("{broker: 5, topic: t, features: {a: b}}", "\\$.broker: expected text, got a whole number"),
        ("{broker: 'mqtt://h', topic: t, features: [a]}", "\\$.features: expected a mapping of fields, got a list"),
        ("{broker: 'mqtt://h', topic: t, features: {a: {path: b, scale: x}}}", "features.a.scale: expected a number"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused_with_its_place(tmp_path: Path, text: str, why: str) -> None:
    (tmp_path / "gear.yaml").write_text(text)
    reactor = Reactor()
    try:
        with pytest.raises(SensorError, match=why) as refused:
            Gear(choice("mqtt:gear.yaml", tmp_path), "room-0", reactor, "reads")
    finally:
        reactor.close()
    assert str(refused.value).startswith(f"{tmp_path}/gear.yaml: ")
