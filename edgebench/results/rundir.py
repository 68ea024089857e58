"""A run directory: what it is called, what is in it, and how it is written and read."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from edgebench.core.samples import COLUMNS, OF_HEAD, SampleRecord
from edgebench.decoding import from_json
from edgebench.errors import EdgebenchError
from edgebench.fabric.records import ReplyRecord, RoundRecord
from edgebench.results.figures import SCHEMA, Result
from edgebench.results.observations import Observations
from edgebench.topology.deployment import Deployment, is_simulated
from edgebench.topology.wording import one_line

TOPOLOGY = "topology.yaml"
OVERRIDES = "overrides.json"
OPTIONS = "options.json"
TRACES = "traces"
PROFILES = "profiles"
DEPLOYMENT = "deployment.json"
RECORDS = "records.parquet"
ROUNDS = "rounds.parquet"
OBSERVATIONS = "observations.json"
RESULT = "result.json"
REPORT = "report.html"
LOGS = "logs"
MODELS = "models"
FEDERATED = "federated"
"""What a federation can be gone on with from: a folder a workload."""

CHUNK_ROWS = 1 << 16
CHUNK_BYTES = 1 << 26

_STRINGS = ("node", "workload", "decider", "digest")
_VECTORS = ("label", "output")
_SMALL = ("size_bytes", "reply_bytes", "batch", "incarnation", "head_batch")

T = TypeVar("T")


class KeptOptions(msgspec.Struct, frozen=True):
    """What a run was given besides its topology: `options.json`, which `edgebench replay` needs.

    registry, resume: absolute. sensors: what was read live, in words, without what an address may hold besides a host.
    tokens: whether others started its containers. meter: of this machine's power, `module:attribute`. calibrate: of a
    simulation, the directories of the runs that said what things take, absolute.
    """

    registry: str | None = None
    retrain: bool = False
    resume: str | None = None
    base_image: str | None = None
    sensors: list[str] = []
    tokens: bool = False
    meter: str | None = None
    calibrate: list[str] = []


@dataclass(frozen=True)
class StoredRun:
    """A finished run. rounds: of its federations, in the order in which they ended; empty where there are none."""

    path: Path
    deployment: Deployment
    observations: Observations
    rounds: list[RoundRecord]


def create_run_dir(out: Path, name: str, at: datetime) -> Path:
    """Make `<out>/<UTC time>-<name>`, numbered from 2 where it exists already; with its `logs` and `models`.

    `at` is in UTC. The directory's name is safe as an MQTT topic level.
    """
    path = create_folder(out, name, at)
    (path / LOGS).mkdir()
    (path / MODELS).mkdir()
    return path


def create_folder(out: Path, name: str, at: datetime) -> Path:
    """Make `<out>/<UTC time>-<name>`, numbered from 2 where it exists already."""
    out.mkdir(parents=True, exist_ok=True)
    stem = f"{at:%Y%m%dT%H%M%SZ}-{name}"
    for number in itertools.count(1):
        path = out / (stem if number == 1 else f"{stem}-{number}")
        try:
            path.mkdir()
        except FileExistsError:
            continue
        return path
    raise AssertionError("unreachable")


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file that is, at any time, absent, as it was, or whole."""
    part = path.with_name(path.name + ".part")
    try:
        with part.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except OSError:
        part.unlink(missing_ok=True)
        raise


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

    Where labels and outputs are large, chunks are of some `CHUNK_BYTES` of these. An empty run has an empty table.
    Times are int64 ns, tensors list<float32>, names dictionary-encoded.
    """
    return write_tables(run_dir, map(records_table, _in_chunks(rows)))


def write_tables(run_dir: Path, tables: Iterable[Any]) -> int:
    """As `write_records`, of pyarrow tables with the schema of `records_schema`, each a chunk."""
    import pyarrow.parquet as pq

    path = run_dir / RECORDS
    part = path.with_name(path.name + ".part")
    written = 0
    with pq.ParquetWriter(part, records_schema(), compression="zstd") as writer:
        for table in tables:
            writer.write_table(table)
            written += len(table)
    part.replace(path)
    return written


def _in_chunks(rows: Iterable[SampleRecord]) -> Iterator[list[SampleRecord]]:
    chunk: list[SampleRecord] = []
    n_bytes = 0
    for row in rows:
        chunk.append(row)
        n_bytes += len(row.label or b"") + len(row.decision.output if row.decision is not None else b"")
        if len(chunk) == CHUNK_ROWS or n_bytes >= CHUNK_BYTES:
            yield chunk
            chunk, n_bytes = [], 0
    if chunk:
        yield chunk


def write_rounds(run_dir: Path, rounds: list[RoundRecord]) -> None:
    """Write `rounds.parquet`, a row a round with its replies as a list, unless there are none."""
    if not rounds:
        return
    import pyarrow as pa
    import pyarrow.parquet as pq

    ordered = sorted(rounds, key=lambda each: (each.ended_ns, each.server))
    rows = [msgspec.to_builtins(each) for each in ordered]
    for row, each in zip(rows, ordered, strict=True):
        row["replies"] = [msgspec.structs.asdict(reply) for reply in each.replies]
        row["metrics"] = list(each.metrics.items())
    part = run_dir / (ROUNDS + ".part")
    pq.write_table(pa.Table.from_pylist(rows, _rounds_schema()), part, compression="zstd")
    part.replace(run_dir / ROUNDS)


def read_rounds(run_dir: Path) -> list[RoundRecord]:
    """The rounds in a run directory; none where it has no `rounds.parquet`. Raises EdgebenchError."""
    path = run_dir / ROUNDS
    if not path.is_file():
        return []
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        rows = pq.read_table(path).to_pylist()
        for row in rows:
            row["replies"] = tuple(ReplyRecord(**reply) for reply in row["replies"])
            row["metrics"] = dict(row["metrics"])
        return [RoundRecord(**row) for row in rows]
    except (pa.ArrowException, TypeError, KeyError) as error:
        raise EdgebenchError(f"{path}: not the rounds of a run: {str(error).splitlines()[0]}") from error


def _rounds_schema() -> Any:
    import pyarrow as pa

    stamp, text, size = pa.int64(), pa.string(), pa.int64()
    reply = pa.struct(
        [
            ("node", text),
            *((name, stamp) for name in ("asked_ns", "delivered_ns", "started_ns", "finished_ns", "arrived_ns")),
            *((name, size) for name in ("bytes_down", "bytes_up", "examples")),
            ("error", text),
            ("unread", pa.bool_()),
        ]
    )
    return pa.schema(
        [
            *((name, text) for name in ("workload", "server", "kind")),
            *((name, pa.int32()) for name in ("number", "inner")),
            *((name, stamp) for name in ("started_ns", "gathered_ns", "ended_ns")),
            ("replies", pa.list_(reply)),
            ("skipped", text),
            ("metrics", pa.map_(text, pa.float64())),
            ("epsilon", pa.float64()),
            ("delta", pa.float64()),
            ("no_epsilon", text),
            ("model", text),
            ("resumed", pa.bool_()),
        ]
    )


def records_table(rows: list[SampleRecord]) -> Any:
    """The rows as a pyarrow table with the schema of `records.parquet`."""
    import pyarrow as pa

    schema = records_schema()
    columns = zip(*map(SampleRecord.columns, rows), strict=True) if rows else ([] for _ in schema)

    def array(field: Any, column: Sequence[Any]) -> Any:
        if field.name in _STRINGS:
            return pa.array(column, pa.string()).dictionary_encode()
        return _vectors(column) if field.name in _VECTORS else pa.array(column, field.type)

    return pa.Table.from_arrays([array(*each) for each in zip(schema, columns, strict=True)], schema=schema)


def _vectors(column: Sequence[bytes | None]) -> Any:
    """Raw float32 values as list<float32>."""
    import numpy as np
    import pyarrow as pa

    ends = np.cumsum([0, *(len(raw or b"") // 4 for raw in column)], dtype=np.int32)
    values = np.frombuffer(b"".join(raw or b"" for raw in column), np.float32)
    absent = pa.array([raw is None for raw in column], pa.bool_())
    return pa.ListArray.from_arrays(pa.array(ends), pa.array(values), mask=absent)


def load_run(path: Path) -> StoredRun:
    """Read a run directory.

    Raises EdgebenchError where it is none, was cut off before its files were written, or holds files of another kind.
    """
    deployment = load_deployment(path)
    if not (path / OBSERVATIONS).is_file():
        raise EdgebenchError(f"{path}: the run was cut off before it wrote {OBSERVATIONS}; run it again")
    if is_simulated(deployment) and not (path / RECORDS).is_file():
        kept = " and ".join(name for name in (RESULT, REPORT) if (path / name).is_file())
        mend = f" (all that it tells is in {kept})" if kept else ""
        raise EdgebenchError(f"{path}: a simulation of so many samples keeps no {RECORDS}{mend}")
    _records_file(path / RECORDS).close()
    return StoredRun(
        path=path,
        deployment=deployment,
        observations=_read_json(path / OBSERVATIONS, Observations),
        rounds=read_rounds(path),
    )


def load_deployment(path: Path) -> Deployment:
    """What a run directory says was run. Raises EdgebenchError where it is none."""
    if not path.is_dir():
        raise EdgebenchError(one_line(f"{path}: no such run directory (see runs/)"))
    if not (path / DEPLOYMENT).is_file():
        inside = [each.parent for way in ("*", "*/*") for each in path.glob(f"{way}/{DEPLOYMENT}")]
        mend = f" (name one of those in it, such as {max(inside)})" if inside else ""
        raise EdgebenchError(one_line(f"{path}: not a run directory, it has no {DEPLOYMENT}{mend}"))
    return _read_json(path / DEPLOYMENT, Deployment, SCHEMA)


class _Versioned(msgspec.Struct):
    """What tells of which version of its form a file is."""

    schema: int


def _read_json(path: Path, kind: type[T], newest: int | None = None) -> T:
    """newest: version of the file's form that can be read; None where it has none."""
    content = path.read_bytes()
    try:
        if newest is not None and (schema := from_json(content, _Versioned).schema) > newest:
            mend = "pip install -U edgebench"
            raise EdgebenchError(f"{path}: schema {schema}, of a newer edgebench: this one reads {newest} ({mend})")
        return from_json(content, kind)
    except msgspec.DecodeError as error:
        raise EdgebenchError(f"{path}: not a {path.stem} that this version can read: {error}") from error


def read_result(run_dir: Path) -> Result:
    """What `result.json` holds. Raises EdgebenchError where it is absent, or of another version."""
    if not (run_dir / RESULT).is_file():
        raise EdgebenchError(f"{run_dir}: has no {RESULT} (edgebench report {run_dir} writes it)")
    return _read_json(run_dir / RESULT, Result, SCHEMA)


def read_overrides(run_dir: Path) -> list[str]:
    """What changed the kept topology, `PATH=VALUE` in the order in which it is applied. Raises EdgebenchError."""
    path = run_dir / OVERRIDES
    if not path.is_file():  # of a run before there was such a file
        return []
    try:
        return from_json(path.read_bytes(), list[str])
    except (OSError, msgspec.DecodeError) as error:
        raise EdgebenchError(f"{path}: not a list of overrides: {error}") from error


def read_options(run_dir: Path) -> KeptOptions:
    """What a run was given besides its topology; nothing of one before there was such a file. Raises EdgebenchError."""
    path = run_dir / OPTIONS
    return _read_json(path, KeptOptions) if path.is_file() else KeptOptions()


def read_records(run_dir: Path) -> Any:
    """The whole of `records.parquet` as a pyarrow table with the columns `COLUMNS`. Raises EdgebenchError."""
    import pyarrow as pa

    return pa.Table.from_batches(record_batches(run_dir, COLUMNS), records_schema()).unify_dictionaries()


def record_batches(run_dir: Path, columns: Sequence[str]) -> Iterator[Any]:
    """Some columns of `records.parquet` in pyarrow record batches of `CHUNK_ROWS` at most. Raises EdgebenchError."""
    import pyarrow as pa

    path = run_dir / RECORDS
    try:
        with _records_file(path) as file:
            for group in range(file.num_row_groups):
                for batch in file.iter_batches(CHUNK_ROWS, row_groups=[group], columns=list(columns)):
                    yield _with_columns_of_heads(batch, columns)
    except (pa.ArrowException, OSError) as error:  # the latter of what is compressed and damaged
        raise _unreadable(path, error) from error


def _with_columns_of_heads(batch: Any, columns: Sequence[str]) -> Any:
    """A batch of a run that knew of no chains, as one has it in which there was none."""
    import pyarrow as pa

    lacking = [name for name in columns if name in OF_HEAD and name not in batch.schema.names]
    if not lacking:
        return batch
    schema = records_schema()
    absent = [pa.nulls(len(batch), schema.field(name).type) for name in lacking]
    return pa.RecordBatch.from_arrays([*batch.columns, *absent], [*batch.schema.names, *lacking])


def _records_file(path: Path) -> Any:
    """The file, whose columns are sound."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    if not path.is_file():
        raise EdgebenchError(f"{path.parent}: the run was cut off before it wrote {RECORDS}; run it again")
    try:
        file = pq.ParquetFile(path)
    except pa.ArrowException as error:
        raise _unreadable(path, error) from error
    lacking = [name for name in records_schema().names if name not in (*file.schema_arrow.names, *OF_HEAD)]
    if lacking:
        file.close()
        raise EdgebenchError(f"{path}: not the records of a run, it lacks {', '.join(lacking)}")
    return file


def _unreadable(path: Path, error: Exception) -> EdgebenchError:
    return EdgebenchError(f"{path}: not a readable Parquet file: {str(error).splitlines()[0]}")


def records_schema() -> Any:
    """That of `records.parquet`, as pyarrow has it."""
    import pyarrow as pa

    def kind(name: str) -> Any:
        if name in _STRINGS:
            return pa.dictionary(pa.int32(), pa.string())
        if name in _VECTORS:
            return pa.list_(pa.float32())
        return pa.int32() if name in _SMALL else pa.int64()

    return pa.schema([(name, kind(name)) for name in COLUMNS])
