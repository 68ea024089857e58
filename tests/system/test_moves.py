"""A device that leaves its site for another takes along what is undecided."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

import edgebench
from tests.system.running import faults_of, run

ROAD = """\
schema: 1
name: road
seed: 3
duration_s: 6
nodes:
  cloud: {tier: cloud}
  road: {tier: edge, count: 2, parent: cloud}
  car:  {tier: device, count: 2, parent: road}
links:
  - {between: [car, road], latency_ms: 20}
workloads:
  signs: {task: icu-death, source: car, load: {kind: fixed, rate_hz: 20}, model: {runtime: fake}}
moves:
  - {at_s: 2, node: car-0, to: road-1}
  - {at_s: 4, node: car-0, to: road-0}
"""


@pytest.mark.parametrize("place", ["edge", "cloud"])
def test_a_car_that_changes_its_site_loses_nothing(place: str, tmp_path: Path) -> None:
    _, result, run_dir = run(tmp_path, ROAD, "--set", f"workloads.signs.place.infer={place}")
    assert faults_of(result) == []
    figures = result["workloads"]["signs"]
    assert (figures["scheduled"], figures["decided"], figures["lost"], figures["duplicated"]) == (240, 240, 0, 0)
    there, back = result["handovers"]
    assert [(each["node"], each["left"], each["to"], each["lost"]) for each in (there, back)] == [
        ("car-0", "road-0", "road-1", 0),
        ("car-0", "road-1", "road-0", 0),
    ]
    assert 2.0 <= there["at_s"] < 4.0 <= back["at_s"]  # each at its time, or as soon as its agent had a core
    # Connecting and subscribing take a turn each over a link of 20 ms; a decision takes at least one more.
    assert there["connect_ms"] > 80
    assert there["first_decision_ms"] > 80
    # 20 samples a second, each 40 ms on its way: at most times one of them is.
    assert there["resent"] + back["resent"] >= 1
    links = result["links"]
    assert all(links[f"car-0 -> {road}"]["up_messages"] > 30 for road in ("road-0", "road-1"))
    if place == "edge":
        rows = [row for row in pq.read_table(run_dir / "records.parquet").to_pylist() if row["node"] == "car-0"]
        rows.sort(key=lambda row: row["seq"])
        deciders = [row["decider"] for row in rows]
        assert [decider for n, decider in enumerate(deciders) if n == 0 or deciders[n - 1] != decider] == [
            "road-0",
            "road-1",
            "road-0",
        ]
    assert "Devices that moved" in (run_dir / "report.html").read_text()
    assert_simulated_alike(run_dir, result, tmp_path)


def assert_simulated_alike(run_dir: Path, result: dict[str, Any], tmp_path: Path) -> None:
    """A simulation by this run has its devices connect as soon, and send again about as much."""
    simulated = edgebench.simulate(edgebench.load(run_dir), calibrate=[run_dir], out=tmp_path / "simulated")
    signs = simulated.figures.workloads["signs"]
    assert (signs.scheduled, signs.decided, signs.lost, signs.duplicated) == (240, 240, 0, 0)
    took_ms = sorted(each["connect_ms"] for each in result["handovers"])
    for each, real in zip(simulated.figures.handovers, result["handovers"], strict=True):
        assert (each.node, each.left, each.to, each.lost) == ("car-0", real["left"], real["to"], 0)
        assert each.connect_ms is not None
        assert took_ms[0] - 0.1 <= each.connect_ms <= took_ms[-1] + 0.1
        assert abs(each.resent - real["resent"]) <= 2
