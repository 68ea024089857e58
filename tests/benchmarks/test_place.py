from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from benchmarks.place_real import order
from tests.benchmarks.marks import MARKS, check_marks

ROOT = Path(__file__).resolve().parents[2]


def test_the_placement_benchmark_prints_every_figure_that_its_docstring_names() -> None:
    command = [sys.executable, "benchmarks/place.py", "--quick", "--json", "--anyway"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout)
    check_marks(figures, watched=1)
    overs = {"tabu_over_exact_mean", "tabu_over_exact_worst", "not_proven", "over_exact", "better_than_baselines"}
    thousand = {"thousand_jobs_s", "thousand_jobs_over_greedy"}
    real = {"real", "pairs_apart", "real_order_agrees"}
    assert set(figures) == {"traces", "jobs", "medical_alone", "medical_together"} | overs | thousand | real | MARKS
    assert figures["over_exact"]["tabu"]["worst"] >= 1
    assert figures["thousand_jobs_s"] > 0
    assert figures["thousand_jobs_over_greedy"] < 1
    for task, by_tier in figures["medical_alone"].items():
        assert task.startswith("icu-")
        assert by_tier["device"]["transmission_s"] == 0
    sums = {policy: found["weighted_response_s"] for policy, found in figures["medical_together"].items()}
    assert min(sums.values()) == sums["exact"]


def test_runs_agree_with_a_prediction_unless_two_are_clearly_the_other_way_round() -> None:
    modelled = {"one": 1.0, "other": 2.0}

    def found(one: list[float], other: list[float]) -> tuple[int, bool | None]:
        told = order(modelled, {"one": one, "other": other})
        return told["pairs_apart"], told["real_order_agrees"]

    assert found([1.0, 1.1, 1.2], [2.0, 2.1, 2.2]) == (1, True)
    assert found([2.0, 2.1, 2.2], [1.0, 1.1, 1.2]) == (1, False)
    assert found([1.9, 2.2, 2.1], [2.0, 2.1, 1.9]) == (0, None)
    assert found([], [2.0, 2.1, 1.9]) == (0, None)
