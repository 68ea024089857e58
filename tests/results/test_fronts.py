"""Fronts and crossings, worked out by hand."""

from __future__ import annotations

from typing import Any

import pytest

from edgebench.report.sweep_page import said
from edgebench.results.fronts import crossings, front
from edgebench.results.sweeps import Cell

MS, BYTES = "workloads.watch.latency_ms.p99", "links.a -> b.up_bytes"


def cell(settings: dict[str, Any], ms: float, sent: float = 0.0, seed: int = 0) -> Cell:
    return Cell(str((settings, seed)), settings, seed, "valid", None, "", {MS: ms, BYTES: sent})


def test_settings_that_others_beat_in_all_figures_are_not_on_the_front() -> None:
    cells = [cell({"n": n}, ms, sent) for n, (ms, sent) in enumerate([(10, 5), (20, 1), (15, 6), (20, 2)])]
    found = front(cells, {MS: "lowest", BYTES: "lowest"})
    assert [(each.settings["n"], each.on_front) for each in found] == [(0, True), (2, False), (1, True), (3, False)]


def test_what_is_best_may_be_what_is_highest() -> None:
    cells = [cell({"n": n}, ms, sent) for n, (ms, sent) in enumerate([(10, 5), (20, 9)])]
    assert all(each.on_front for each in front(cells, {MS: "lowest", BYTES: "highest"}))
    assert [each.on_front for each in front(cells, {MS: "lowest", BYTES: "lowest"})] == [True, False]


def test_settings_that_lack_a_figure_are_not_compared() -> None:
    lacking = Cell("x", {"n": 1}, 0, "valid", None, "", {MS: 1.0, BYTES: None})
    assert [each.settings["n"] for each in front([cell({"n": 0}, 3, 4), lacking], {MS: "lowest", BYTES: "lowest"})] == [
        0
    ]


def test_the_better_place_changes_where_the_means_meet() -> None:
    """The cloud is 30 ms worse at 1 Mbit/s and 10 ms better at 4: three quarters of the way, in powers of four."""
    cells = [
        cell({"up": up, "at": at}, ms, seed=seed)
        for up, at, pair in (
            (1, "edge", (40, 60)),
            (1, "cloud", (80, 80)),
            (4, "edge", (50, 50)),
            (4, "cloud", (40, 40)),
        )
        for seed, ms in enumerate(pair)
    ]
    (found,) = crossings(cells, MS, "lowest", "up", "at")
    assert (found.below, found.above, found.low, found.high) == ("edge", "cloud", 1, 4)
    assert found.at == pytest.approx(4**0.75)


def test_each_of_the_other_settings_has_crossings_of_its_own() -> None:
    cells = [
        cell({"up": up, "at": at, "rate": rate}, ms)
        for rate, worse in ((1, 10), (2, -10))
        for up, at, ms in ((0, "edge", 50), (0, "cloud", 60), (1, "edge", 50), (1, "cloud", 50 + worse))
    ]
    (found,) = crossings(cells, MS, "lowest", "up", "at")
    assert (found.settings, found.at) == ({"rate": 2}, 0.5)


def test_no_place_is_told_where_what_is_best_has_no_valid_cell_on_the_other_side() -> None:
    """The edge is best at 1 and overloaded at 2; which of the two that are valid at both is better does not matter."""
    cells = [
        cell({"up": up, "at": at}, ms)
        for up, at, ms in ((1, "edge", 10), (1, "device", 20), (1, "cloud", 30), (2, "device", 40), (2, "cloud", 30))
    ]
    (found,) = crossings(cells, MS, "lowest", "up", "at")
    assert (found.below, found.above, found.at) == ("edge", "cloud", None)
    assert said(found) == (
        "at 1 edge is best, at 2 cloud; not both are valid at both, so nothing tells where that changes"
    )
