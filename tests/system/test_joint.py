"""Several workloads decide one frame: some at once, one after another, and all of them together."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.system.running import faults_of, run

VEHICLE = """\
schema: 1
name: vehicle
seed: 3
duration_s: 4
nodes:
  cloud: {tier: cloud}
  road: {tier: edge, count: 2, parent: cloud}
  car:  {tier: device, count: 4, parent: road}
links:
  - {between: [road, cloud], latency_ms: 20}
workloads:
  signs: {task: icu-death, source: car, load: {kind: fixed, rate_hz: 10}, model: {runtime: fake}}
  lanes: {task: icu-death, source: car, load: {kind: with, workload: signs}, model: {runtime: fake}}
  check:
    task: icu-death
    source: car
    load: {kind: after, workloads: [signs]}
    model: {runtime: fake}
    place: {infer: cloud}
joint:
  driving: {of: [check, lanes], deadline_ms: 1000}
"""
FRAMES = 160


def test_a_joint_decision_takes_as_long_as_its_longest_way(tmp_path: Path) -> None:
    _, result, run_dir = run(tmp_path, VEHICLE)
    assert faults_of(result) == []
    figures = result["workloads"]
    assert {name: (each["scheduled"], each["decided"]) for name, each in figures.items()} == dict.fromkeys(
        ("signs", "lanes", "check"), (FRAMES, FRAMES)
    )
    driving = result["joint"]["driving"]
    assert (driving["frames"], driving["decided"]) == (FRAMES, FRAMES)
    ways = {tuple(each["path"]): each for each in driving["paths"]}
    assert ways.keys() == {("signs", "check"), ("lanes",)}
    # The cloud is 20 ms away, there and back.
    assert ways["signs", "check"]["mean_ms"] > 40
    assert ways["signs", "check"]["critical"] > 0.9 * FRAMES
    added = sum(each["critical"] * (each["mean_ms"] or 0.0) for each in ways.values())
    assert added / FRAMES == pytest.approx(driving["latency_ms"]["mean"], rel=1e-3)
    assert driving["latency_ms"]["mean"] < driving["parts_ms"]

    rows = pq.read_table(run_dir / "records.parquet").to_pylist()
    by_frame = {(row["workload"], row["node"], row["seq"]): row for row in rows}
    for (workload, node, seq), row in by_frame.items():
        signs = by_frame["signs", node, seq]
        if workload == "lanes":
            assert row["scheduled_ns"] == signs["scheduled_ns"]
        if workload == "check":
            assert row["scheduled_ns"] == signs["arrived_ns"]
    assert "Joint decisions" in (run_dir / "report.html").read_text()
