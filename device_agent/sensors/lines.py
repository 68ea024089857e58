"""Lines of CSV or JSON from a program, a pipe or a serial port.

A line is a JSON object with the features by their names, a JSON array, or cells between commas, semicolons, tabs or
blanks; a first line of names says which cell is which. Blank lines and what begins with # are left out.
"""

from __future__ import annotations

import csv
import os
import subprocess
import threading
from collections.abc import Iterator
from typing import Any

from device_agent.sensors.live import Taken, taken_now
from device_agent.sensors.rows import parsed
from edgebench.fabric.child_process import ChildProcess, describe_end
from edgebench.fabric.descriptors import READABLE, wait_until_ready
from edgebench.fabric.sensors import SensorChoice, SensorError, command_of, pipe_of, serial_port_of

_LOOK_S = 0.2
_CHUNK_BYTES = 1 << 16
_LONGEST_BYTES = 1 << 24


class LineParser:
    """Reads lines of one source, of which the first may name the cells."""

    def __init__(self) -> None:
        self._names: list[str] | None = None

    def parse(self, line: str) -> Any | None:
        """What it says: a mapping, or a list; None for nothing. What is no JSON is left as it is, for who fits it."""
        text = line.strip().lstrip("\ufeff")
        if not text or text.startswith("#"):
            return None
        if text[0] in "[{":
            return parsed(text, [text])  # what is none is no number, which is then said of it
        try:
            cells = _cells(text)
        except csv.Error:  # a carriage return within it, say: no number, which is then said of it
            return [text]
        if self._names is not None and len(cells) == len(self._names):
            return dict(zip(self._names, cells, strict=True))
        if self._names is None and not any(map(_is_number, cells)):
            self._names = cells
            return None
        return list(cells)


class Program:
    """A program's standard output. It ends with the run, and all that it has started with it."""

    def __init__(self, choice: SensorChoice) -> None:
        """Starts it, in a thread that lasts. Raises SensorError."""
        environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
        self._process = ChildProcess(command_of(choice), family=True, stdout=subprocess.PIPE, env=environment)
        self._parser = LineParser()

    def read(self, over: threading.Event) -> Iterator[Taken]:
        """What its lines say, until it is over. Raises SensorError where it ends."""
        while not over.is_set():
            try:
                line = self._process.read_line(_LOOK_S, most_bytes=_LONGEST_BYTES)
            except TimeoutError:
                continue
            except ValueError as error:
                raise SensorError(str(error)) from None
            if not line and self._process.has_ended:
                raise SensorError(f"the program has ended ({describe_end(self._process.status or 0)})")
            parsed = self._parser.parse(line.decode(errors="replace"))
            if parsed is not None:
                yield taken_now(parsed)

    def close(self) -> None:
        """End it."""
        self._process.end()


class Pipe:
    """A named pipe, whose writers may come and go, or a serial port."""

    def __init__(self, choice: SensorChoice) -> None:
        """Opens it. Raises SensorError."""
        self._parser = LineParser()
        if choice.kind == "serial":
            self._fd = _serial(choice)
            return
        try:
            # For writing, too: so it does not end when a writer goes.
            self._fd = os.open(pipe_of(choice), os.O_RDWR | os.O_NONBLOCK)
        except OSError as error:
            raise SensorError(f"{choice.path}: {error.strerror}") from None

    def read(self, over: threading.Event) -> Iterator[Taken]:
        """What its lines say, until it is over. Raises SensorError where it cannot be read any more."""
        unread = bytearray()
        while not over.is_set():
            if not wait_until_ready(self._fd, READABLE, _LOOK_S):
                continue
            try:
                chunk = os.read(self._fd, _CHUNK_BYTES)
            except OSError as error:
                raise SensorError(error.strerror or str(error)) from error
            if not chunk:
                raise SensorError("it has ended")
            unread += chunk
            *lines, rest = unread.split(b"\n")
            if len(rest) > _LONGEST_BYTES:
                raise SensorError(f"a line of more than {_LONGEST_BYTES:,} bytes")
            unread = bytearray(rest)
            for line in lines:
                parsed = self._parser.parse(line.decode(errors="replace"))
                if parsed is not None:
                    yield taken_now(parsed)

    def close(self) -> None:
        """Let it go."""
        os.close(self._fd)


def _serial(choice: SensorChoice) -> int:
    """A serial port as raw bytes: DEVICE@BAUD, 8 bits, no parity."""
    import termios
    import tty

    device, speed = serial_port_of(choice)
    try:
        fd = os.open(device, os.O_RDONLY | os.O_NOCTTY | os.O_NONBLOCK)
    except OSError as error:
        raise SensorError(f"{device}: {error.strerror}") from None
    try:
        tty.setraw(fd)
        settings = termios.tcgetattr(fd)
        settings[4] = settings[5] = speed
        settings[2] |= termios.CLOCAL | termios.CREAD
        termios.tcsetattr(fd, termios.TCSANOW, settings)
    except termios.error as error:
        os.close(fd)
        raise SensorError(f"{device} is no serial port: {error.args[-1]}") from None
    return fd


def _cells(text: str) -> list[str]:
    for separator in ",;\t":
        if separator in text:
            return [cell.strip() for cell in next(csv.reader([text], delimiter=separator))]
    return text.split()


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True
