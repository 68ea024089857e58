"""What came of a sweep: ranked by hand, and as a table."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any, Literal

import msgspec
import pyarrow.parquet as pq
import pytest
from rich.console import Console

from edgebench.report.sweep_page import write_page
from edgebench.report.sweep_view import print_sweep
from edgebench.results.fronts import Swept, front
from edgebench.results.sweeps import Cell, kinds_of, leaderboard, write_table

FIGURE = "workloads.watch.latency_ms.p99"
KINDS = {"edge": "emulated", "device": "modelled", "cloud": "measured"}


def cell(place: str, seed: int, ms: float | None, state: Literal["valid", "invalid", "failed"] = "valid") -> Cell:
    values: dict[str, float | None] = {} if ms is None else {FIGURE: ms}
    kind = None if state == "failed" else KINDS[place]
    return Cell(f"{place}{seed}", {"place": place, "n": [1]}, seed, state, None, "", values, kind)


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


def test_what_the_figures_of_settings_are_stands_beside_their_mean() -> None:
    assert [each.figures for each in leaderboard(CELLS, FIGURE, "lowest")] == ["modelled", "emulated", None]
    assert [each.figures for each in front(CELLS, {FIGURE: "lowest"})] == ["modelled", "emulated"]
    assert kinds_of(CELLS) == "3 emulated, 3 modelled"


def test_of_figures_that_are_not_trusted_the_kind_is_not_told_and_mixed_kinds_are_told_as_such() -> None:
    def of_kind(kind: str, seed: int, state: Literal["valid", "invalid"]) -> Cell:
        return msgspec.structs.replace(cell("edge", seed, 1.0, state), figures=kind)

    for kinds, told in (
        (["measured", "emulated"], "emulated"),
        (["measured", "modelled", "emulated"], "emulated and modelled"),
    ):
        first, *others = kinds
        cells = [of_kind(first, 0, "invalid"), *(of_kind(kind, seed, "valid") for seed, kind in enumerate(others, 1))]
        assert [each.figures for each in leaderboard(cells, FIGURE, "lowest")] == [told]
        assert [each.figures for each in front(cells, {FIGURE: "lowest"})] == [told]


def test_a_valid_cell_without_the_figure_is_counted_apart() -> None:
    (edge,) = leaderboard([cell("edge", 0, 10), cell("edge", 1, None)], FIGURE, "lowest")
    assert (edge.mean, edge.valid, edge.unscored) == (10, 1, 1)


def test_the_table_has_a_row_a_cell(tmp_path: Path) -> None:
    write_table(tmp_path / "sweep.parquet", CELLS)
    rows: list[dict[str, Any]] = pq.read_table(tmp_path / "sweep.parquet").to_pylist()
    assert [row["state"] for row in rows] == ["valid"] * 5 + ["invalid", "failed"]
    assert [row["figures"] for row in rows] == ["emulated"] * 3 + ["modelled"] * 3 + [None]
    assert (rows[0]["place"], rows[0]["n"], rows[0]["seed"], rows[0][FIGURE]) == ("edge", "[1]", 0, 10)
    assert rows[-1][FIGURE] is None


def test_terminal_and_page_say_which_figures_are_emulated_or_modelled(tmp_path: Path) -> None:
    cells = [msgspec.structs.replace(each, values={**each.values, "bytes": 1.0}) for each in CELLS]
    board, best = leaderboard(cells, FIGURE, "lowest"), front(cells, {FIGURE: "lowest", "bytes": "lowest"})
    swept = Swept(str(tmp_path), "sweep.parquet", cells, FIGURE, board, best)
    output = io.StringIO()
    print_sweep(swept, Console(file=output, width=120, force_terminal=False))
    lines = output.getvalue().splitlines()
    assert lines[1].split()[:3] == ["settings", "figures", "mean"]
    assert [line.split()[1:3] for line in lines[2:5]] == [["n=[1]", "modelled"], ["n=[1]", "emulated"], ["n=[1]", "–"]]
    assert lines[5] == f"not beaten: place=device, n=[1]: {FIGURE} 6, bytes 1 (modelled)"
    write_page(swept, "places", None)
    page = (tmp_path / "sweep.html").read_text()
    assert "<span>3 emulated, 3 modelled</span>" in page
    assert page.count('<th scope="row">place=edge, n=[1]</th><td>emulated</td>') == 2


def test_without_a_ranking_the_terminal_counts_the_kinds_of_cells() -> None:
    output = io.StringIO()
    print_sweep(Swept("x", "sweep.parquet", CELLS, None, []), Console(file=output, width=120, force_terminal=False))
    assert output.getvalue().splitlines()[0] == "7 cells: 3 emulated, 3 modelled"
