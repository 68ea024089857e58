"""Collecting: from the spools that a run's parts leave behind to its files."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import msgspec
import pytest

from edgebench.clock import NS_PER_S
from edgebench.core.clocks import Exchange
from edgebench.core.releases import Releases
from edgebench.core.samples import SampleRecord
from edgebench.core.tallies import Tally
from edgebench.fabric.records import (
    Began,
    Brokered,
    Compared,
    Elsewhere,
    Faulted,
    FaultStep,
    HostUsage,
    HostUsed,
    MachineFacts,
    Opened,
    Refused,
    Released,
    SampleRows,
    TallySnapshot,
    TookPart,
    Usage,
    Used,
)
from edgebench.fabric.spool import Spool
from edgebench.results import rundir
from edgebench.results.collect import COMMAND_SPOOL, UPLOADS, collect
from tests.results import factory

ENTRY_ROWS = 20
LARGE: SampleRecord = factory.row(0, 0, output=[0.5] * 1_000)
"""4 kB of output."""


def _spools(run_dir: Path, rows: int) -> None:
    rundir.write_deployment(run_dir, factory.deployment())
    (run_dir / UPLOADS).mkdir()
    command = Spool(run_dir / COMMAND_SPOOL)
    command.write(Opened(0, {}))
    command.close()
    spool = Spool(run_dir / UPLOADS / "bed-0.spool")
    for first in range(0, rows, ENTRY_ROWS):
        spool.write(SampleRows([msgspec.structs.replace(LARGE, seq=first + n) for n in range(ENTRY_ROWS)]))
    spool.close()


def test_the_records_of_both_lives_of_a_process_are_joined(tmp_path: Path) -> None:
    _spools(tmp_path, 0)
    path = tmp_path / UPLOADS / "bed-0.spool"
    for incarnation, (decided, cpu_s) in enumerate(((3, 1.5), (2, 0.5))):
        spool = Spool(path)  # as its next life opens it
        spool.write(
            SampleRows([msgspec.structs.replace(LARGE, seq=n, incarnation=incarnation) for n in range(decided)]),
            TallySnapshot(0, "bed-0", {"death-risk": Tally(decided=1)}, incarnation),
            TallySnapshot(0, "bed-0", {"death-risk": Tally(decided=decided)}, incarnation),
            Used(["bed-0"], Usage(NS_PER_S, cpu_s, 1_000_000), incarnation),
        )
        spool.close()
        with path.open("ab") as file:
            file.write(b"\0\0\1\0cut off by SIGKI")
    observations = collect(tmp_path)
    assert observations.tallies["bed-0"]["death-risk"].decided == 5
    assert [usage.cpu_s for usage in observations.usage["bed-0"]] == [1.5, 2.0]
    records = rundir.read_records(tmp_path).select(["seq", "incarnation"]).to_pylist()
    assert [(row["seq"], row["incarnation"]) for row in records] == [(0, 0), (1, 0), (2, 0), (0, 1), (1, 1)]


def test_no_more_than_a_chunk_of_a_run_is_held_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rundir, "CHUNK_BYTES", 400_000)
    _spools(tmp_path, 4_000)
    rundir.write_records(tmp_path, [LARGE])  # what it imports is none of the run
    tracemalloc.start()
    try:
        collect(tmp_path)
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    # All of it is 16 MB.
    assert peak_bytes < 3_000_000
    assert rundir.read_records(tmp_path)["seq"].to_pylist() == list(range(4_000))


def test_of_a_broker_the_last_that_is_known_counts(tmp_path: Path) -> None:
    rundir.write_deployment(tmp_path, factory.deployment())
    command = Spool(tmp_path / COMMAND_SPOOL)
    command.write(Opened(0, {}), *(Brokered(site, "nats", "2.15.1") for site in ("cloud", "ward-0")))
    command.write(last := Brokered("cloud", "nats", "2.15.1", {"connections": 3}), Refused("cloud", {"requests": 1}))
    command.write(Refused("cloud", {"connections": 1, "requests": 2}))
    command.close()
    found = collect(tmp_path)
    assert found.brokers == [last, Brokered("ward-0", "nats", "2.15.1")]
    assert found.refused == {"cloud": {"connections": 4, "requests": 2}}


@pytest.mark.parametrize(
    ("counted_s", "ended_s"),
    [((), 40), ((13, 17), 17), ((13, 41), 40), ((9,), 10)],
    ids=["nothing is known", "interrupted", "whole", "interrupted before the first sample"],
)
def test_the_streams_of_a_run_that_is_interrupted_end_when_its_nodes_do(
    tmp_path: Path, counted_s: tuple[int, ...], ended_s: int
) -> None:
    rundir.write_deployment(tmp_path, factory.deployment())
    (tmp_path / UPLOADS).mkdir()
    command = Spool(tmp_path / COMMAND_SPOOL)
    command.write(Opened(0, {}), Began(10 * NS_PER_S, 40 * NS_PER_S))
    command.close()
    bed = Spool(tmp_path / UPLOADS / "bed-0.spool")
    bed.write(*(TallySnapshot(at_s * NS_PER_S, "bed-0", {}) for at_s in counted_s))
    bed.close()
    found = collect(tmp_path)
    assert (found.started_ns, found.ended_ns) == (10 * NS_PER_S, ended_s * NS_PER_S)


AHEAD_S = 5_000


@pytest.mark.parametrize(("computer", "foreign"), [("here", 0.1), ("pi", 0.5)])
def test_parts_on_a_machine_of_the_same_computer_are_no_foreign_work(
    tmp_path: Path, computer: str, foreign: float
) -> None:
    # Of a second each uses 0.4 and 0.3; the board's clock is ahead.
    rundir.write_deployment(tmp_path, factory.placed(factory.deployment(), bed_0="pi"))
    there = [
        Exchange(*(round((at_s + AHEAD_S) * NS_PER_S), *2 * (at_s * NS_PER_S,), round((at_s + AHEAD_S) * NS_PER_S)))
        for at_s in range(9)
    ]
    command = Spool(tmp_path / COMMAND_SPOOL)
    command.write(
        Opened(0, {}),
        TookPart(MachineFacts("pi", "aarch64", 2, 4_000, "10.0.0.2", computer)),
        Compared("pi", there),
        HostUsed(HostUsage(5 * NS_PER_S, 0.9, 0.0, 0.5, None, 4 * NS_PER_S, 0.3)),
        Elsewhere(
            "pi", HostUsed(HostUsage((AHEAD_S + 5) * NS_PER_S, 0.9, 0.0, 0.5, None, (AHEAD_S + 4) * NS_PER_S, 0.4))
        ),
    )
    command.close()
    found = collect(tmp_path)
    assert found.host_usage[0].foreign == pytest.approx(foreign, abs=1e-3)
    there_too = found.machines["pi"].host_usage[0].foreign
    assert there_too == pytest.approx(0.2 if computer == "here" else 0.5, abs=1e-3)


def test_what_an_emulated_node_releases_late_since_a_fault_had_it_stand_still_says_nothing_of_the_machine(
    tmp_path: Path,
) -> None:
    rundir.write_deployment(tmp_path, factory.deployment())
    (tmp_path / UPLOADS).mkdir()
    command = Spool(tmp_path / COMMAND_SPOOL)
    steps: tuple[tuple[FaultStep, int], ...] = (("pause", 3), ("resume", 5))
    command.write(Opened(0, {}), *(Faulted(None, each, at_s * NS_PER_S, "w", ("ward-0",)) for each, at_s in steps))
    command.close()
    ward = Spool(tmp_path / UPLOADS / "ward-0.spool")
    # At 5.2 s it gives away what was due 2 s before that.
    written = (2.5, 10, 0.01, 0.002, 0), (5.2, 14, 2.01, 2.0, 4), (6.1, 14, 2.01, 0.0, 4), (7.5, 15, 2.02, 0.01, 5)
    for at_s, n, slip_s, most_s, late in written:
        releases = Releases(n, round(slip_s * NS_PER_S), n * NS_PER_S, round(most_s * NS_PER_S), late, busy_ns=n)
        ward.write(Released("ward-0", releases, at_ns=round(at_s * NS_PER_S)))
    # Nor is it that of another life.
    ward.write(Released("ward-0", Releases(3, took_ns=NS_PER_S, busy_ns=1), 1, 9 * NS_PER_S))
    ward.close()
    found = collect(tmp_path).released["ward-0"]
    assert (found.n, found.late, found.busy_ns) == (10 + 1 + 3, 1, 15 + 1)
    assert found.slip_ns == pytest.approx(0.02 * NS_PER_S)
    assert found.most_slip_ns == 0.01 * NS_PER_S
