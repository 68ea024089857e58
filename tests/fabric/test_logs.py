"""A log that says the same over and over says so in a line now and then."""

from __future__ import annotations

import logging

import pytest

from edgebench.fabric import logs
from edgebench.fabric.logs import Throttle


class Clock:
    now = 100.0


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(logs, "now_s", lambda: clock.now)
    return clock


class Log:
    """The lines that pass a throttle."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self._throttle = Throttle()

    def say(self, text: str, *args: object, name: str = "edgebench.fabric.mqtt") -> None:
        record = logging.LogRecord(name, logging.WARNING, __file__, 1, text, args, None)
        if self._throttle.filter(record):
            self.lines.append(record.getMessage())


def test_of_a_thousand_connections_to_a_broker_that_is_away_few_lines_tell(clock: Clock) -> None:
    log = Log()
    for _ in range(60):
        for _connection in range(100):
            log.say("broker %s: %s; trying again in %.1f s", "127.0.0.1:1883", "Connection refused", 2.0)
        clock.now += 2.0
    assert len(log.lines) == 16
    assert log.lines[0] == "broker 127.0.0.1:1883: Connection refused; trying again in 2.0 s"
    assert log.lines[-1].endswith("(and 499 more like it)")


def test_lines_that_differ_in_more_than_numbers_are_all_written(clock: Clock) -> None:
    log = Log()
    for letter in "abcdefgh":
        log.say("%s: the announced model is not used", letter)
    assert len(log.lines) == 8


def test_lines_of_a_kind_that_come_seldom_are_all_written(clock: Clock) -> None:
    log = Log()
    for _ in range(20):
        log.say("broker away")
        clock.now += 11.0
    assert log.lines == ["broker away"] * 20


def test_what_a_users_own_code_logs_is_left_alone(clock: Clock) -> None:
    log = Log()
    for epoch in range(50):
        log.say("epoch %d", epoch, name="my_app.training")
    assert len(log.lines) == 50
