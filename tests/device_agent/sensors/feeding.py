"""Feeds that are read for a test."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from device_agent.sensors.live import Taken
from edgebench.fabric.sensors import SensorChoice, parse_sensor

WAIT_S = 20.0


class Reader(Protocol):
    def read(self, over: threading.Event) -> Iterator[Taken]: ...


def choice(text: str, folder: Path) -> SensorChoice:
    return parse_sensor(f"node={text}", folder).of("node")


@contextmanager
def read(reader: Reader) -> Iterator[queue.SimpleQueue[Any]]:
    """What it reads, as it comes, and in the end what it raises."""
    over, got = threading.Event(), queue.SimpleQueue[Any]()

    def run() -> None:
        try:
            for reading, _ in reader.read(over):
                got.put(reading)
        except Exception as error:  # noqa: BLE001 - it is what the test asks for
            got.put(error)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield got
    finally:
        over.set()
        thread.join(WAIT_S)
        assert not thread.is_alive()
