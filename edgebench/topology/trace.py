"""Text files of times: when a device's samples are due."""

from __future__ import annotations

import math
from itertools import pairwise
from pathlib import Path

from edgebench.decoding import NotUtf8Error, from_utf8
from edgebench.errors import TopologyError
from edgebench.topology.wording import one_line


def read_trace(path: str | Path) -> list[float]:
    """Times in s from the start of the run, ascending, one a line; blank lines and lines that begin with # are skipped.

    Raises TopologyError with the file and the line.
    """
    path = Path(path)
    form = "write one time in s a line"
    times = [(number, _time(path, number, line)) for number, line in numbered_lines(path, form)]
    if not times:
        raise TopologyError([f"{path}: no times in it ({form})"])
    for (_, before), (number, after) in pairwise(times):
        if after < before:
            raise TopologyError([f"{path}: line {number}: {after:g} comes after {before:g} (sort the times)"])
    return [time_s for _, time_s in times]


def numbered_lines(path: Path, form: str) -> list[tuple[int, str]]:
    """The lines of a text file that are neither blank nor comments (#), with their numbers. form: what to write there.

    Raises TopologyError.
    """
    try:
        lines = utf8_text(path, form).splitlines()
    except FileNotFoundError as error:
        raise TopologyError([f"{path}: no such file"]) from error
    except OSError as error:
        raise TopologyError([f"{path}: cannot be read: {error.strerror}"]) from error
    except ValueError as error:
        raise TopologyError([f"{path}: cannot be read: {error}"]) from error
    numbered = [(number, line.strip()) for number, line in enumerate(lines, 1)]
    return [(number, line) for number, line in numbered if line and not line.startswith("#")]


def utf8_text(path: Path, mend: str) -> str:
    """A text file in UTF-8, with or without a byte order mark.

    Raises OSError, ValueError for a path that cannot be, and TopologyError with the line that is no text.
    """
    content = path.read_bytes()
    try:
        return from_utf8(content)
    except NotUtf8Error as error:
        raise TopologyError([one_line(f"{path}: line {error.line}: a byte that is no UTF-8 ({mend})")]) from error


def _time(path: Path, number: int, line: str) -> float:
    try:
        time_s = float(line)
    except ValueError as error:
        raise TopologyError([f"{path}: line {number}: '{line[:40]}' is no number (write a time in s)"]) from error
    if not math.isfinite(time_s) or time_s < 0:
        raise TopologyError([f"{path}: line {number}: {line} is not a time ≥ 0"])
    return time_s
