from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks import real_tcp
from benchmarks.link_settings import SETTINGS
from tests.benchmarks.marks import MARKS, check_marks

ROOT = Path(__file__).resolve().parents[2]
KEYS = {
    "median_error",
    "p99_timing_error_ms",
    "goodput_error",
    "settings",
    "tbf",
    "machine_late_ms",
    "pass_through",
    "congestion_control",
    "tun_late_ms",
    "not_measured",
    "host",
}


def figures_of(*options: str, watched: int) -> dict[str, Any]:
    command = [sys.executable, "benchmarks/links.py", "--quick", "--json", "--anyway", *options]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    figures: dict[str, Any] = json.loads(done.stdout)
    check_marks(figures, watched=watched)
    assert set(figures) == KEYS | MARKS
    return figures


def test_a_link_is_held_against_its_law_message_by_message_and_against_its_rate() -> None:
    name = "20 ± 5 ms, 100 Mbit/s"
    figures = figures_of("--only", name, watched=1)
    found = figures["settings"][name]
    for way in ("up", "down"):
        asked_ms, found_ms = found["delay_ms"][way]["p50"]
        assert 15 <= asked_ms <= 25.1
        assert found_ms >= 15  # however busy the machine, nothing is early
        assert found["mbit_s"][way][0] == 100.0
    (once,) = found["tries"]
    assert {way: once[way] for way in ("up", "down")} == found["timing_error_ms"]
    assert 0 <= once["stolen"] < 1
    assert figures["p99_timing_error_ms"] == max(found["timing_error_ms"].values())
    assert figures["goodput_error"] is None


def test_a_link_that_loses_packets_is_held_against_its_law_and_the_kernels_tcp() -> None:
    name = "20 ms, 50 Mbit/s, 5 % lost"
    figures = figures_of("--only", name, watched=1)
    found = figures["settings"][name]
    able = real_tcp.why_not() is None
    for what in ("goodput_mbit_s", "message_ms"):
        assert [who for who, each in found[what].items() if each] == ["ours", "law", "real"][: 3 if able else 2]
    assert figures["congestion_control"] == ("cubic" if able else None)
    assert found["loss_percent"][0] == 5.0
    assert 0 < found["loss_percent"][1] < 15


def test_there_are_sixteen_settings_of_all_kinds() -> None:
    plans = [setting.plan for setting in SETTINGS.values()]
    assert len(plans) == 16
    assert [plan.loss_percent for plan in plans if plan.loses] == [0.1, 1.0, 5.0]
    assert {setting.shared_by for setting in SETTINGS.values()} == {1, 8, 64}
    assert {plan.jitter for plan in plans} == {"uniform", "normal", "pareto"}


@pytest.mark.long
def test_the_links_benchmark_prints_every_figure_that_its_docstring_names() -> None:
    figures = figures_of(watched=19)
    assert list(figures["settings"]) == list(SETTINGS)
    assert set(figures["pass_through"]) == {"relay_mbit_s", "plain_mbit_s", "rate_ratio", "relay_ms", "plain_ms"}
    assert (figures["tbf"] is None) is (real_tcp.why_not() is not None)
