from datetime import UTC, datetime
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from edgebench.core.samples import COLUMNS, OF_HEAD, SampleRecord
from edgebench.errors import EdgebenchError
from edgebench.results import rundir
from edgebench.results.chunks import HEAD_HOPS, NEEDED, chunks_of
from tests.results import factory

AT = datetime(2026, 11, 3, 9, 5, 7, tzinfo=UTC)


def _write(path: Path, rows: list[SampleRecord]) -> Path:
    rundir.write_deployment(path, factory.deployment())
    rundir.write_observations(path, factory.observations())
    rundir.write_records(path, rows)
    return path


def test_two_runs_of_one_second_get_two_directories(tmp_path: Path) -> None:
    first = rundir.create_run_dir(tmp_path / "runs", "icu-ward", AT)
    second = rundir.create_run_dir(tmp_path / "runs", "icu-ward", AT)
    assert first.name == "20261103T090507Z-icu-ward"
    assert second.name == "20261103T090507Z-icu-ward-2"
    assert (second / "logs").is_dir()


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    rows = [factory.row(0, 10), factory.lost(1, 20), factory.row(2, 30, label=None)]
    run = rundir.load_run(_write(tmp_path, rows))
    assert run.deployment == factory.deployment()
    assert run.observations == factory.observations()
    back = rundir.read_records(run.path).to_pylist()
    vectors = [(row.pop("label"), row.pop("output")) for row in back]
    assert vectors == [([0.0], pytest.approx([0.1])), ([1.0], None), (None, pytest.approx([0.1]))]
    plain = [dict(zip(COLUMNS, row.columns(), strict=True)) for row in rows]
    assert back == [{name: row[name] for name in back[0]} for row in plain]


def test_a_run_without_a_sample_has_an_empty_table(tmp_path: Path) -> None:
    run = rundir.load_run(_write(tmp_path, []))
    assert rundir.read_records(run.path).num_rows == 0
    assert rundir.read_records(run.path).column_names == list(COLUMNS)


def test_rows_beyond_one_chunk_keep_their_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rundir, "CHUNK_ROWS", 2)
    rows = [factory.row(seq, seq, node=f"bed-{seq}") for seq in range(5)]
    assert rundir.write_records(tmp_path, rows) == 5
    assert pq.ParquetFile(tmp_path / rundir.RECORDS).num_row_groups == 3
    _write(tmp_path, rows)
    assert rundir.read_records(tmp_path)["node"].to_pylist() == [f"bed-{seq}" for seq in range(5)]


def test_no_half_written_file_is_left_under_its_name(tmp_path: Path) -> None:
    def broken() -> list[SampleRecord]:
        raise OSError("disk full")

    rundir.write_records(tmp_path, [factory.row(0, 10)])
    before = (tmp_path / rundir.RECORDS).read_bytes()
    with pytest.raises(OSError, match="disk full"):
        rundir.write_records(tmp_path, (row for _ in range(1) for row in broken()))
    assert (tmp_path / rundir.RECORDS).read_bytes() == before


@pytest.mark.parametrize(
    ("present", "complaint"),
    [
        ([], "not a run directory, it has no deployment.json"),
        (["deployment.json"], "cut off before it wrote observations.json"),
        (["deployment.json", "observations.json"], "cut off before it wrote records.parquet"),
    ],
)
def test_a_directory_that_is_no_run_is_refused_in_one_line(tmp_path: Path, present: list[str], complaint: str) -> None:
    _write(tmp_path, [])
    for path in tmp_path.iterdir():
        if path.name not in present:
            path.unlink()
    with pytest.raises(EdgebenchError, match=complaint) as error:
        rundir.load_run(tmp_path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "content", [b'{"schema": "none"}', b'{"schema": "\xff"}', pytest.param(b'{"x": ' + b"[" * 100_000, id="deep")]
)
@pytest.mark.parametrize("name", ["deployment.json", "observations.json", "records.parquet"])
def test_a_file_of_another_kind_is_refused_by_name(tmp_path: Path, name: str, content: bytes) -> None:
    _write(tmp_path, [])
    (tmp_path / name).write_bytes(content)
    with pytest.raises(EdgebenchError, match=name) as error:
        rundir.load_run(tmp_path)
    assert "\n" not in str(error.value)


def test_records_that_are_damaged_within_are_refused_by_name(tmp_path: Path) -> None:
    """Their ends are sound, and what is compressed between is not."""
    rundir.write_records(tmp_path, [factory.row(seq, 10) for seq in range(5_000)])
    file = tmp_path / "records.parquet"
    content = bytearray(file.read_bytes())
    content[200:-12_000] = bytes(byte ^ 0x5A for byte in content[200:-12_000])
    file.write_bytes(content)
    with pytest.raises(EdgebenchError, match=r"records\.parquet: not a readable Parquet file: "):
        list(rundir.record_batches(tmp_path, ("seq", "arrived_ns")))


def test_a_path_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    with pytest.raises(EdgebenchError, match="no such run directory"):
        rundir.load_run(tmp_path / "nowhere")


def test_records_of_a_version_without_chains_are_read_as_those_of_a_run_without_any(tmp_path: Path) -> None:
    rundir.write_records(tmp_path, [factory.row(0, 10)])
    path = tmp_path / rundir.RECORDS
    new = pq.read_table(path)
    pq.write_table(new.drop_columns(list(OF_HEAD)), path)
    read = rundir.read_records(tmp_path)
    assert read.column_names == list(COLUMNS)
    assert [read[name].to_pylist() for name in OF_HEAD] == [[None]] * len(OF_HEAD)
    ((_, chunk),) = chunks_of(rundir.record_batches(tmp_path, NEEDED), ["death-risk"])
    assert not chunk.hops_ns.keys() & set(HEAD_HOPS)


def test_the_columns_have_the_names_that_other_tools_rely_on() -> None:
    sample = factory.row(3, 10, return_in_ns=7)
    values = dict(zip(COLUMNS, sample.columns(), strict=True))
    assert sample.decision is not None
    assert values["decider"] == "ward-0"
    assert values["return_in_ns"] == 7
    assert values["finished_ns"] == sample.decision.stamps.finished_ns
    undecided = dict(zip(COLUMNS, factory.lost(3, 10).columns(), strict=True))
    assert [name for name, value in undecided.items() if value is not None] == [
        "node", "workload", "seq", "scheduled_ns", "captured_ns", "sent_ns", "size_bytes", "label",
        "incarnation",
    ]  # fmt: skip


def test_a_folder_of_run_directories_that_is_taken_for_one_names_the_newest(tmp_path: Path) -> None:
    for name in ("20260101T000000Z-a", "20260102T000000Z-a", "0-cells/1"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "deployment.json").write_text("{}")
    with pytest.raises(EdgebenchError) as refused:
        rundir.load_run(tmp_path)
    said = f"{tmp_path}: not a run directory, it has no deployment.json"
    assert str(refused.value) == f"{said} (name one of those in it, such as {tmp_path / '20260102T000000Z-a'})"
