"""Sweeps: what is wrong is known before the first cell; a cell is run once; one that is ended goes on."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, NoReturn

import msgspec
import pyarrow.parquet as pq
import pytest

import edgebench
from edgebench.clock import now_s, sleep_s
from edgebench.errors import EdgebenchError
from edgebench.experiments import sweep as sweeping
from edgebench.experiments import sweep_cells
from edgebench.experiments.places import NoRoomError
from edgebench.experiments.sweep_spec import read_spec, settings_of
from edgebench.results.sweeps import Cell
from tests.experiments.test_job_runs import ward as jobs
from tests.system.running import SMALL

SPEC = """\
schema: 1
name: places
topology: small.yaml
set: [duration_s=1]
grid:
  workloads.watch.place.infer: [device, edge]
seeds: [1, 2]
rank: {figure: workloads.watch.latency_ms.p50}
"""


def written(tmp_path: Path, spec: str = SPEC) -> Path:
    (tmp_path / "small.yaml").write_text(SMALL)
    (tmp_path / "places.yaml").write_text(spec)
    return tmp_path / "places.yaml"


def refused(tmp_path: Path, spec: str) -> str:
    with pytest.raises(EdgebenchError) as raised:
        edgebench.sweep(written(tmp_path, spec), out=tmp_path / "sweeps")
    assert not (tmp_path / "sweeps").exists()
    return str(raised.value)


def test_a_mistake_in_any_cell_is_told_before_the_first_is_run(tmp_path: Path) -> None:
    said = refused(tmp_path, SPEC.replace("device, edge", "edge, nowhere"))
    assert "infer" in said
    assert "nowhere" in said
    file = tmp_path / "places.yaml"
    assert refused(tmp_path, SPEC.replace("grid:", "gird:")) == (
        f"{file}: $: unknown field 'gird' (did you mean 'grid'?)"
    )
    assert refused(tmp_path, SPEC.replace("[1, 2]", "[1, 1]")).startswith(f"{file}: $.seeds: ")
    same = refused(tmp_path, SPEC.replace("device, edge", "edge, edge"))
    assert same.endswith("is the same as workloads.watch.place.infer=edge (leave one of them out)")
    assert refused(tmp_path, SPEC + "list: [{workloads.watch.place.infer: edge}]\n") == (
        f"{file}: $.list[0]: 'workloads.watch.place.infer' is in the grid, too (remove one)"
    )
    assert refused(tmp_path, SPEC + "executor: nowhere\n").startswith(f"{file}: $.executor: no runs by 'nowhere' ")
    assert refused(tmp_path, SPEC + "executor: simulate\n") == (
        f"{file}: $.calibrate: nothing says what things take (name a run of the same tasks)"
    )
    assert refused(tmp_path, SPEC + "calibrate: [runs/x]\n") == (
        f"{file}: $.calibrate: real runs need none (remove it, or write executor: simulate)"
    )
    assert refused(tmp_path, SPEC + "crossings: {along: duration, between: workloads.watch.place.infer}\n") == (
        f"{file}: $.crossings.along: 'duration' is not varied (known: workloads.watch.place.infer)"
    )
    infer = "workloads.watch.place.infer"
    assert refused(tmp_path, SPEC + f"crossings: {{along: {infer}, between: {infer}}}\n") == (
        f"{file}: $.crossings.along: '{infer}' has a value that is no number"
    )
    assert refused(tmp_path, SPEC + "front: {workloads.watch.latency_ms.p50: lowest}\n") == (
        f"{file}: $.front: one figure alone has no front (name two, or use rank)"
    )
    kept = f"workloads.watch.model={{source: 'sha256:{'0' * 64}'}}"
    assert "a sweep has a registry of its own" in refused(tmp_path, SPEC.replace("duration_s=1", f'"{kept}"'))


def run_before(spec: Path, out: Path) -> None:
    """All cells of a sweep are there, the n-th with a median latency of n ms."""
    cells = out / "places" / "cells"
    cells.mkdir(parents=True)
    planned = sweeping.planned_cells(read_spec(spec), spec, folder=cells.parent)
    for place, (key, (given, settings)) in enumerate(planned.items()):
        values: dict[str, float | None] = {"workloads.watch.latency_ms.p50": float(place)}
        cell = Cell(key, settings, given.topology.seed, "valid", "runs/x", "", values)
        (cells / f"{key}.json").write_bytes(msgspec.json.encode(cell))


def test_a_ctrl_c_that_comes_while_a_cell_ends_ends_the_sweep_and_keeps_the_cell(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted_as_it_ends(*cell: Any) -> Cell:
        key, given, settings, *_, heard = cell
        heard.append(signal.SIGINT)
        return Cell(key, settings, given.topology.seed, "valid", "runs/x", "", {})

    monkeypatch.setattr(sweep_cells, "came_of", interrupted_as_it_ends)
    with pytest.raises(KeyboardInterrupt):
        edgebench.sweep(written(tmp_path), out=tmp_path / "sweeps")
    assert len(list((tmp_path / "sweeps" / "places" / "cells").glob("*.json"))) == 1


def test_cells_that_have_been_run_are_not_run_again(tmp_path: Path) -> None:
    spec = written(tmp_path)
    run_before(spec, tmp_path / "sweeps")
    with pytest.raises(EdgebenchError, match="has cells already"):
        edgebench.sweep(spec, out=tmp_path / "sweeps")
    swept = edgebench.sweep(spec, out=tmp_path / "sweeps", resume=True)
    # Seed 1: device 0, edge 1; seed 2: device 2, edge 3.
    assert [(each.settings["workloads.watch.place.infer"], each.mean) for each in swept.leaderboard] == [
        ("device", 1),
        ("edge", 2),
    ]
    assert pq.read_table(swept.table).num_rows == 4
    assert not (tmp_path / "sweeps" / "places" / "runs").exists()


def test_a_damaged_cell_is_named(tmp_path: Path) -> None:
    spec = written(tmp_path)
    run_before(spec, tmp_path / "sweeps")
    damaged = min((tmp_path / "sweeps" / "places" / "cells").iterdir())
    for content in (b"{", b"[" * 100_000, b'{"key": "\xff"}'):
        damaged.write_bytes(content)
        with pytest.raises(EdgebenchError, match=f"{damaged}: not a cell of a sweep: ") as raised:
            edgebench.sweep(spec, out=tmp_path / "sweeps", resume=True)
        assert "\n" not in str(raised.value)


def test_cells_of_an_earlier_form_of_the_file_are_ranked_with_their_fellows(tmp_path: Path) -> None:
    run_before(written(tmp_path), tmp_path / "sweeps")
    more = written(tmp_path, SPEC.replace("grid:", "grid:\n  duration_s: [1]").replace("set: [duration_s=1]\n", ""))
    swept = edgebench.sweep(more, out=tmp_path / "sweeps", resume=True)
    assert [(each.settings["duration_s"], each.valid) for each in swept.leaderboard] == [(1, 2), (1, 2)]


SEARCH = """\
schema: 1
name: places
topology: small.yaml
search:
  tries: 8
  ranges: {duration_s: {low: 1.0, high: 100.0, scale: log}, workloads.watch.queue.max_samples: {low: 10, high: 12}}
  values: {workloads.watch.place.infer: [device, edge]}
seeds: [1, 2, 3]
rank: {figure: workloads.watch.latency_ms.p50}
"""


def test_a_search_goes_on_with_the_better_half_with_each_seed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is ranked by how long it lasts, but the shortest of all has no figure."""
    spec = written(tmp_path, SEARCH)
    shortest, *others = sorted({settings["duration_s"] for settings, _ in settings_of(read_spec(spec))})
    ran = []

    def as_long_as_it_lasts(*cell: Any) -> Cell:
        key, given, settings, *_ = cell
        duration_s = settings["duration_s"]
        ran.append((given.topology.seed, duration_s))
        values = {} if duration_s == shortest else {"workloads.watch.latency_ms.p50": duration_s}
        return Cell(key, settings, given.topology.seed, "valid", "runs/x", "", values)

    monkeypatch.setattr(sweep_cells, "came_of", as_long_as_it_lasts)
    swept = edgebench.sweep(spec, out=tmp_path / "sweeps")
    by_seed = [[s for seed, s in ran if seed == each] for each in (1, 2, 3)]
    assert [len(each) for each in by_seed] == [8, 4, 2]
    assert sorted(by_seed[0]) == [shortest, *others]
    assert (sorted(by_seed[1]), sorted(by_seed[2])) == (others[:4], others[:2])
    board = [(each.valid, each.settings["duration_s"]) for each in swept.leaderboard]
    assert board == [(3, others[0]), (3, others[1]), (2, others[2]), (2, others[3]), *board[4:]]
    assert board[-1] == (0, shortest)
    again = edgebench.sweep(spec, out=tmp_path / "sweeps", resume=True)
    assert len(ran) == 14
    assert again.leaderboard == swept.leaderboard


def test_a_search_ends_with_a_signal_though_more_of_it_was_run_than_it_asks_for_now(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it is ranked by was changed, so that other settings are the better half."""
    told: list[signal.Signals] = []

    def as_long_as_it_lasts(*cell: Any) -> Cell:
        key, given, settings, _, heard = cell
        heard += told
        values = {"workloads.watch.latency_ms.p50": settings["duration_s"]}
        return Cell(key, settings, given.topology.seed, "valid", "runs/x", "", values)

    monkeypatch.setattr(sweep_cells, "came_of", as_long_as_it_lasts)
    edgebench.sweep(written(tmp_path, SEARCH), out=tmp_path / "sweeps")
    cells = tmp_path / "sweeps" / "places" / "cells"
    before = len(list(cells.iterdir()))
    other = written(tmp_path, SEARCH.replace(".p50}", ".p50, best: highest}"))
    told.append(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        edgebench.sweep(other, out=tmp_path / "sweeps", resume=True)
    assert len(list(cells.iterdir())) == before + 1


def test_what_a_search_tries_is_drawn_within_its_ranges_and_the_same_whatever_comes_after(tmp_path: Path) -> None:
    def tried(tries: int) -> list[dict[str, Any]]:
        spec = read_spec(written(tmp_path, SEARCH.replace("tries: 8", f"tries: {tries}")))
        return [settings for settings, seed in settings_of(spec) if seed == 1]

    many = tried(200)
    assert tried(8) == many[:8]
    durations_s = sorted(each["duration_s"] for each in many)
    assert durations_s[0] >= 1
    assert durations_s[-1] <= 100
    assert 6 < durations_s[100] < 16  # whose logarithm is in the middle
    assert {each["workloads.watch.queue.max_samples"] for each in many} == {10, 11, 12}
    assert {each["workloads.watch.place.infer"] for each in many} == {"device", "edge"}


def test_a_search_that_cannot_be_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "places.yaml"
    assert refused(tmp_path, SEARCH + "grid: {duration_s: [1]}\n") == (
        f"{file}: $.search: beside a grid or a list (put their values into search.values)"
    )
    assert refused(tmp_path, SEARCH.replace("low: 1.0", "low: 0.0")) == (
        f"{file}: $.search.ranges.duration_s.low: 0 has no logarithm (give more than 0)"
    )
    assert refused(tmp_path, SEARCH.partition("rank:")[0]) == f"{file}: $.search: for which figure? (add rank)"
    assert refused(tmp_path, SEARCH.replace("tries: 8", "tries: 1")).startswith(f"{file}: $.search.tries: ")


def test_a_key_changes_with_what_is_run_and_with_nothing_else(tmp_path: Path) -> None:
    def keys(spec: str, due: str = "0.1\n") -> list[str]:
        file = written(tmp_path, spec)
        (tmp_path / "due.txt").write_text(due)
        return list(sweeping.planned_cells(read_spec(file), file, folder=tmp_path / "sweeps"))

    traced = SPEC.replace("[duration_s=1]", "['workloads.watch.load={kind: trace, file: due.txt}']")
    assert keys(SPEC) == keys(SPEC + "# the same\n")
    assert set(keys(SPEC)).isdisjoint(keys(SPEC.replace("duration_s=1", "duration_s=2")))
    assert keys(traced) == keys(traced)
    assert set(keys(traced)).isdisjoint(keys(traced, due="0.2\n"))
    elsewhere = SPEC.replace("set: [", "executor: lab\nset: [machines.ward=pi, ")
    assert keys(elsewhere) == keys(elsewhere)
    assert set(keys(elsewhere)).isdisjoint(keys(elsewhere.replace("ward=pi", "ward=jetson")))


@pytest.mark.long
def test_a_sweep_that_is_ended_goes_on_where_it_was(tmp_path: Path) -> None:
    spec, cells = written(tmp_path), tmp_path / "sweeps" / "places" / "cells"
    command = [sys.executable, "-m", "edgebench.cli", "sweep", str(spec), "--out", str(tmp_path / "sweeps")]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    until_s = now_s() + 120
    while not list(cells.glob("*.json")) and now_s() < until_s:
        sleep_s(0.1)
    sleep_s(1.0)
    os.kill(process.pid, signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode == 130
    (first,) = cells.glob("*.json")
    at_ns = first.stat().st_mtime_ns
    swept = edgebench.sweep(spec, out=tmp_path / "sweeps", resume=True)
    assert first.stat().st_mtime_ns == at_ns
    assert len(swept.cells) == len({cell.run for cell in swept.cells}) == 4
    assert {cell.state for cell in swept.cells} <= {"valid", "invalid"}


JOBS = """\
schema: 1
name: jobs
topology: ward.yaml
grid: {policy: [all-edge, all-device]}
"""


def test_a_policy_places_the_jobs_of_a_sweep_which_is_run_for_real(tmp_path: Path) -> None:
    jobs(tmp_path)
    spec = tmp_path / "jobs.yaml"
    spec.write_text(JOBS)
    planned = sweeping.planned_cells(read_spec(spec), spec, folder=tmp_path / "sweeps" / "jobs")
    deciders = [[plan.place.infer for plan in given.topology.workloads.values()] for given, _ in planned.values()]
    assert deciders == [["edge"] * 3, ["device"] * 3]


@pytest.mark.parametrize("full", [OSError(errno.ENOSPC, "No space left on device"), NoRoomError("here", "make room")])
def test_a_full_disk_is_not_the_failure_of_one_cell(tmp_path: Path, full: Exception) -> None:
    spec = written(tmp_path)
    (key, planned), *_ = sweeping.planned_cells(read_spec(spec), spec, folder=tmp_path).items()

    def finds_it_full(*_: object) -> NoReturn:
        raise full

    with pytest.raises(NoRoomError):
        sweep_cells.recorded(tmp_path, sweep_cells.PlannedCell(key, *planned), finds_it_full, [])
