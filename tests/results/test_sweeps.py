"""What came of a sweep: ranked by hand, and as a table."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import pyarrow.parquet as pq
import pytest

from edgebench.results.sweeps import Cell, leaderboard, write_table

FIGURE = "workloads.watch.latency_ms.p99"


def cell(place: str, seed: int, ms: float | None, state: Literal["valid", "invalid", "failed"] = "valid") -> Cell:
    values: dict[str, float | None] = {} if ms is None else {FIGURE: ms}
    return Cell(f"{place}{seed}", {"place": place, "n": [1]}, seed, state, None, "", values)


CELLS = [
    *(cell("edge", seed, ms) for seed, ms in enumerate([10, 11, 12])),
    *(cell("device", seed, ms) for seed, ms in enumerate([5, 7])),
    cell("device", 2, 0.001, "invalid"),
    cell("cloud", 0, None, "failed"),
]


def test_settings_are_ranked_by_the_mean_of_their_valid_cells_with_its_interval() -> None:
    device, edge, cloud = leaderboard(CELLS, FIGURE, "lowest")
    assert [each.settings["place"] for each in (device, edge, cloud)] == ["device", "edge", "cloud"]
    assert (edge.mean, edge.valid) == (11, 3)
    # s = 1 of 3, t = 4.3027: 11 ± 2.484.
    assert edge.interval == pytest.approx((11 - 2.484, 11 + 2.484), abs=1e-3)
    assert [each.settings["place"] for each in leaderboard(CELLS, FIGURE, "highest")] == ["edge", "device", "cloud"]


def test_what_failed_or_is_not_valid_is_counted_and_never_scored() -> None:
    device, _, cloud = leaderboard(CELLS, FIGURE, "lowest")
    assert (device.mean, device.valid, device.invalid, device.failed) == (6, 2, 1, 0)
    assert (cloud.mean, cloud.interval, cloud.valid, cloud.failed) == (None, None, 0, 1)


def test_a_valid_cell_without_the_figure_is_counted_apart() -> None:
    (edge,) = leaderboard([cell("edge", 0, 10), cell("edge", 1, None)], FIGURE, "lowest")
    assert (edge.mean, edge.valid, edge.unscored) == (10, 1, 1)


def test_the_table_has_a_row_a_cell(tmp_path: Path) -> None:
    write_table(tmp_path / "sweep.parquet", CELLS)
    rows: list[dict[str, Any]] = pq.read_table(tmp_path / "sweep.parquet").to_pylist()
    assert [row["state"] for row in rows] == ["valid"] * 5 + ["invalid", "failed"]
    assert (rows[0]["place"], rows[0]["n"], rows[0]["seed"], rows[0][FIGURE]) == ("edge", "[1]", 0, 10)
    assert rows[-1][FIGURE] is None
