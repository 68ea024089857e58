"""Gear that speaks MQTT in its own way (Zigbee2MQTT, Tasmota): read from the broker that the board's file names."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from device_agent.sensors.live import LiveSensor, ReadingError
from device_agent.sensors.rows import number, parsed
from edgebench.clock import now_ns
from edgebench.fabric.gear_file import broker_of, compiled_paths
from edgebench.fabric.mqtt import REFUSED, Connection, topic_matches
from edgebench.fabric.reactor import Reactor
from edgebench.fabric.sensors import SensorChoice, gear_file_of

_log = logging.getLogger(__name__)


class Gear:
    """A feed of one node's gear."""

    def __init__(self, choice: SensorChoice, node: str, reactor: Reactor, client_id: str) -> None:
        """node: whose gear it is. Raises SensorError for a file that cannot be used."""
        self.about = f"{choice.shown} ({node})"
        self.sensors: list[LiveSensor] = []
        file = gear_file_of(choice)
        self._every_s = file.every_s
        self._reactor = reactor
        self._is_over = False
        self._values: dict[str, float] = {}
        self._came_ns: dict[str, int] = {}
        self._awaited = set(file.features)
        self._complained = False
        self._places = [
            (feature, file.topic_of(feature, node), path, file.place(feature))
            for feature, path in compiled_paths(file, choice.path).items()
        ]
        broker = broker_of(file, choice.path)
        self._shown = broker.shown
        self._connection = Connection(
            reactor, broker, client_id, on_message=self._heard, on_trouble=self._trouble, clean_session=True
        )

    def start(self, failed: Callable[[str], None]) -> None:
        """See `Feed`. A broker that is away is asked again and again; one that refuses is none."""
        self._failed = failed
        self._reactor.call_soon_threadsafe(self._begin)

    def close(self) -> None:
        """See `Feed`; in the reactor's thread, or when that is over."""
        self._is_over = True
        self._connection.close()

    def _begin(self) -> None:
        self._connection.subscribe(sorted({topic for _, topic, _, _ in self._places}), 0)
        self._connection.start()
        if self._every_s is not None:
            self._reactor.call_later(self._every_s, self._step_again)

    def _heard(self, topic: str, payload: bytes) -> None:
        text, came_ns = payload.decode(errors="replace"), now_ns()
        message = parsed(text, text)
        for name, pattern, path, place in self._places:
            if not topic_matches(pattern, topic):
                continue
            try:
                found = _searched(path, message, name)
                if found is None:
                    continue
                self._values[name] = number(found, name) * place.scale + place.offset
            except ReadingError as error:
                self._complain(f"{topic}: {error}")
                continue
            self._came_ns[name] = came_ns
            self._awaited.discard(name)
        if self._every_s is None and not self._awaited:
            self._step()
            self._awaited = {name for name, _, _, _ in self._places}

    def _step_again(self) -> None:
        if not self._is_over:
            if not self._awaited:
                self._step()
            assert self._every_s is not None
            self._reactor.call_later(self._every_s, self._step_again)

    def _step(self) -> None:
        values, taken_ns = dict(self._values), min(self._came_ns.values())  # it is as old as the oldest of them
        for sensor in self.sensors:
            sensor.take(values, taken_ns)

    def _trouble(self, why: str) -> None:
        if self._is_over:
            return
        self._complain(f"{self._shown}: {why}")
        if why.startswith(REFUSED):
            for sensor in self.sensors:
                sensor.has_ended = True
            self._is_over = True
            self._failed(f"{self._shown}: {why}")

    def _complain(self, why: str) -> None:
        for sensor in self.sensors:
            sensor.complaint = why
        if not self._complained:
            _log.warning("%s: %s", self.about, why)
            self._complained = True


def _searched(path: Any, message: Any, name: str) -> Any:
    """Raises ReadingError where a function of the path cannot take what the message holds."""
    from jmespath.exceptions import JMESPathError

    try:
        return path.search(message)
    except (JMESPathError, ArithmeticError, RecursionError) as error:
        raise ReadingError(f"{name} cannot be found: {' '.join(str(error).split())[:200]}") from None
