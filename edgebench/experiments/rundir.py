"""A run directory: what it is called, what is in it, and how it is written and read."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from edgebench.errors import EdgebenchError
from edgebench.fabric.records import Observations, SampleRecord
from edgebench.topology.deployment import Deployment

TOPOLOGY = "topology.yaml"
DEPLOYMENT = "deployment.json"
RECORDS = "records.parquet"
OBSERVATIONS = "observations.json"
RESULT = "result.json"
REPORT = "report.html"
LOGS = "logs"
MODELS = "models"

CHUNK_ROWS = 1 << 16

_STRINGS = ("node", "workload", "decider", "digest")
_VECTORS = ("label", "output")
_SMALL = ("size_bytes", "reply_bytes", "batch")

T = TypeVar("T")


@dataclass(frozen=True)
class Run:
    """A finished run. records: a pyarrow table with the columns of `SampleRecord`, in its order."""

    path: Path
    deployment: Deployment
    observations: Observations
    records: Any


def create_run_dir(out: Path, name: str, at: datetime) -> Path:
    """Make `<out>/<UTC time>-<name>`, numbered from 2 where it exists already; with its `logs` and `models`.

    `at` is in UTC. The directory's name is safe as an MQTT topic level.
    """
    out.mkdir(parents=True, exist_ok=True)
    stem = f"{at:%Y%m%dT%H%M%SZ}-{name}"
    for number in itertools.count(1):
        path = out / (stem if number == 1 else f"{stem}-{number}")
        try:
            path.mkdir()
        except FileExistsError:
            continue
        (path / LOGS).mkdir()
        (path / MODELS).mkdir()
        return path
    raise AssertionError("unreachable")


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file that is, at any time, absent, as it was, or whole."""
    part = path.with_name(path.name + ".part")
    with part.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)


def write_json(path: Path, value: Any) -> None:
    """Write a struct as indented JSON, atomically."""
    write_atomically(path, msgspec.json.format(msgspec.json.encode(value), indent=2) + b"\n")


def write_deployment(run_dir: Path, deployment: Deployment) -> None:
    """Write `deployment.json`."""
    write_json(run_dir / DEPLOYMENT, deployment)


def write_observations(run_dir: Path, observations: Observations) -> None:
    """Write `observations.json`."""
    write_json(run_dir / OBSERVATIONS, observations)


def write_records(run_dir: Path, rows: Iterable[SampleRecord]) -> int:
    """Write `records.parquet`, atomically and in chunks of `CHUNK_ROWS`, and return how many rows it has.

    An empty run has an empty table. Times are int64 ns, tensors list<float32>, names dictionary-encoded.
    """
    import pyarrow.parquet as pq

    path = run_dir / RECORDS
    part = path.with_name(path.name + ".part")
    written = 0
    remaining = iter(rows)
    with pq.ParquetWriter(part, _schema(), compression="zstd") as writer:
        while chunk := list(itertools.islice(remaining, CHUNK_ROWS)):
            writer.write_table(records_table(chunk))
            written += len(chunk)
    part.replace(path)
    return written


def records_table(rows: list[SampleRecord]) -> Any:
    """The rows as a pyarrow table with the schema of `records.parquet`."""
    import pyarrow as pa

    schema = _schema()
    columns = zip(*map(msgspec.structs.astuple, rows), strict=True) if rows else ([] for _ in schema)
    arrays = [
        pa.array(column, pa.string()).dictionary_encode() if field.name in _STRINGS else pa.array(column, field.type)
        for field, column in zip(schema, columns, strict=True)
    ]
    return pa.Table.from_arrays(arrays, schema=schema)


def load_run(path: Path) -> Run:
    """Read a run directory.

    Raises EdgebenchError where it is none, was cut off before its files were written, or holds files of another kind.
    """
    if not path.is_dir():
        raise EdgebenchError(f"{path}: no such run directory (see runs/)")
    if not (path / DEPLOYMENT).is_file():
        raise EdgebenchError(f"{path}: not a run directory, it has no {DEPLOYMENT}")
    for name in (OBSERVATIONS, RECORDS):
        if not (path / name).is_file():
            raise EdgebenchError(f"{path}: the run was cut off before it wrote {name}; run it again")
    return Run(
        path=path,
        deployment=_read_json(path / DEPLOYMENT, Deployment),
        observations=_read_json(path / OBSERVATIONS, Observations),
        records=_read_records(path / RECORDS),
    )


def _read_json(path: Path, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except msgspec.DecodeError as error:
        raise EdgebenchError(f"{path}: not a {path.stem} that this version can read: {error}") from error


def _read_records(path: Path) -> Any:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(path)
    except pa.ArrowException as error:
        raise EdgebenchError(f"{path}: not a readable Parquet file: {str(error).splitlines()[0]}") from error
    schema = _schema()
    lacking = [name for name in schema.names if name not in table.column_names]
    if lacking:
        raise EdgebenchError(f"{path}: not the records of a run, it lacks {', '.join(lacking)}")
    return table.select(schema.names)


def _schema() -> Any:
    import pyarrow as pa

    def kind(name: str) -> Any:
        if name in _STRINGS:
            return pa.dictionary(pa.int32(), pa.string())
        if name in _VECTORS:
            return pa.list_(pa.float32())
        return pa.int32() if name in _SMALL else pa.int64()

    return pa.schema([(name, kind(name)) for name in SampleRecord.__struct_fields__])
