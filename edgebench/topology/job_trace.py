"""Job traces in files: CSV with a line a job."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from edgebench.errors import TopologyError
from edgebench.topology.job_model import Job
from edgebench.topology.model import Topology
from edgebench.topology.shape import ShapeError, typed
from edgebench.topology.strict_yaml import Value
from edgebench.topology.trace import utf8_text
from edgebench.topology.wording import did_you_mean, one_line

COLUMNS = Job.__struct_fields__
_TEXT = ("task", "device")
_LARGEST_BYTES = 64 << 20
_DIGITS = 20
"""A number of more characters is no whole one that a job may have, and may be more than a float holds."""


def read_jobs(path: str | Path) -> dict[int, Job]:
    """The jobs of a CSV file whose first line names the columns, in any order, by the numbers of their lines.

    Raises TopologyError with the file and the line.
    """
    path = Path(path)
    try:
        if path.stat().st_size > _LARGEST_BYTES:
            raise TopologyError([one_line(f"{path}: larger than {_LARGEST_BYTES >> 20} MiB (is this a job trace?)")])
        with io.StringIO(utf8_text(path, "save it as UTF-8"), newline="") as file:
            jobs = dict(_jobs(path, csv.reader(file, strict=True)))
    except FileNotFoundError as error:
        raise TopologyError([one_line(f"{path}: no such file")]) from error
    except OSError as error:
        raise TopologyError([one_line(f"{path}: cannot be read: {error.strerror}")]) from error
    except ValueError as error:  # such a path cannot be
        raise TopologyError([one_line(f"{path}: cannot be read: {error}")]) from error
    if not jobs:
        raise TopologyError([one_line(f"{path}: no jobs in it (write a line a job below {','.join(COLUMNS)})")])
    return jobs


def _jobs(path: Path, rows: Iterator[list[str]]) -> Iterator[tuple[int, Job]]:
    columns: list[str] | None = None
    try:
        for row in rows:
            number: int = rows.line_num  # type: ignore[attr-defined]
            texts = [text.strip() for text in row]
            if not any(texts):
                continue
            if columns is None:
                columns = _columns(path, number, texts)
            else:
                yield number, _job(path, number, columns, texts)
    except csv.Error as error:
        raise TopologyError([one_line(f"{path}: line {rows.line_num}: {error}")]) from error  # type: ignore[attr-defined]


def _columns(path: Path, number: int, found: list[str]) -> list[str]:
    at = f"{path}: line {number}"
    for name in found:
        if name not in COLUMNS:
            raise TopologyError([one_line(f"{at}: no column is called '{name[:40]}'{did_you_mean(name, COLUMNS)}")])
        if found.count(name) > 1:
            raise TopologyError([one_line(f"{at}: column '{name}' stands here twice (remove one)")])
    missing = [name for name in COLUMNS if name not in found]
    if missing:
        raise TopologyError([one_line(f"{at}: column '{missing[0]}' is missing (name {', '.join(COLUMNS)})")])
    return found


def _job(path: Path, number: int, columns: list[str], texts: list[str]) -> Job:
    if len(texts) != len(columns):
        wanted = f"{len(texts)} fields, and the first line names {len(columns)} columns"
        raise TopologyError([one_line(f"{path}: line {number}: {wanted} (write one field a column)")])
    values: dict[str, Value] = {
        name: text if name in _TEXT else _number(text) for name, text in zip(columns, texts, strict=True)
    }
    try:
        return typed(values, Job)
    except ShapeError as error:
        where = ".".join(map(str, error.steps))
        raise TopologyError([one_line(f"{path}: line {number}: {where}: {error.problem}")]) from error


def _number(text: str) -> Value:
    if "_" in text:  # a part of a number in Python's own code only
        return text
    if len(text) <= _DIGITS:
        with suppress(ValueError):
            return int(text)
    try:
        number = float(text)
    except ValueError:
        return text
    return text if math.isnan(number) else number


def jobs_of(topology: Topology) -> tuple[Job, ...]:
    """The jobs of a topology, in the order in which they are written. Raises TopologyError."""
    return tuple(read_jobs(topology.jobs).values()) if isinstance(topology.jobs, str) else topology.jobs
