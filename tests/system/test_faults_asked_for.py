"""Whole runs in which things go wrong as the topology asks: they go on, say what it cost, and leave nothing running."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec

from edgebench.results.rundir import read_records
from edgebench.topology import load
from edgebench.topology.fault_schedule import fault_plans
from tests.system.running import SMALL, faults_of, run

FAULTS = """\
faults:
  - {kind: restart, node: ward-0, at_s: 1, for_s: 0.5}
  - {kind: pause, trace: churn.txt}
  - {kind: pause, node: bed-3, at_s: 2, for_s: 1}
  - {kind: kill, node: bed-2, when: {workload: watch, decided: 0.4}}
  - {kind: degrade, link: bed-0 -> ward-0, at_s: 3, for_s: 2, to: {latency_ms: 150}}
  - {kind: join, node: mat, at_s: 1}
  - {kind: leave, node: mat, at_s: 4}
chaos:
  - {kind: down, links: [ward -> cloud], rate_per_h: 1800, for_s: [0.2, 0.5]}
"""

CHURN = "2 bed-1 down\n2.5 bed-1 up\n"


def by_thing(result: dict[str, Any]) -> dict[tuple[str, str], dict[str, Any]]:
    """The faults of a run by kind and name; of several of one the last."""
    return {(fault["kind"], fault["name"]): fault for fault in result["faults"]}


def test_a_run_goes_on_while_its_nodes_are_killed_paused_and_started_again(tmp_path: Path) -> None:
    (tmp_path / "churn.txt").write_text(CHURN)
    text = SMALL.replace("duration_s: 4", "duration_s: 6").replace("source: bed", "source: [bed, mat]")
    text = text.replace("workloads:", "  mat:   {tier: device, parent: ward}\nworkloads:")
    _, result, run_dir = run(tmp_path, text + FAULTS)
    assert faults_of(result) == []
    found = by_thing(result)
    edge, device = found["restart", "ward-0"], found["pause", "bed-1"]
    for fault, at_s in ((edge, 1.0), (device, 2.0), (found["pause", "bed-3"], 2.0)):
        assert fault["asked_s"] == at_s
        assert at_s <= fault["at_s"] < fault["until_s"]
        assert fault["recovery_s"] > 0
        assert fault["lost"] == 0
    assert (edge["devices"], device["devices"]) == (3, 1)
    # What came while its edge was away waited for it.
    assert edge["slowest_ms"] > 500
    slow = found["degrade", "bed-0 -> ward-0"]
    assert (slow["devices"], slow["lost"]) == (1, 0)
    assert slow["slowest_ms"] > 300
    killed = found["kill", "bed-2"]
    assert killed["asked_s"] > 1.5
    assert (killed["until_s"], killed["recovery_s"]) == (None, None)
    deaths = {death["part"]: (death["expected"], death["returns"]) for death in result["deaths"]}
    assert deaths == {
        "ward-0": (True, True),
        "device agent of bed-2": (True, False),
    }
    cuts = [fault for fault in result["faults"] if fault["kind"] == "down"]
    assert cuts
    assert all(fault["entry"] == "chaos[0]" for fault in cuts)
    # A run directory says what it was, and is the same topology again.
    planned = json.loads((run_dir / "deployment.json").read_text())["faults"]
    assert len(planned) == len(result["faults"])
    assert (run_dir / "traces" / "faults-1.txt").read_text() == CHURN
    kept = load(run_dir / "topology.yaml", json.loads((run_dir / "overrides.json").read_text()))
    assert [msgspec.to_builtins(plan) for plan in fault_plans(kept)] == planned
    # One was there from 1 to 4 s, 30 samples; the other four all the time, but for the one that was killed.
    came, left = found["join", "mat"], found["leave", "mat"]
    assert (came["asked_s"], left["asked_s"]) == (1.0, 4.0)
    assert came["recovery_s"] is not None
    of_mat = [row for row in read_records(run_dir).to_pylist() if row["node"] == "mat"]
    assert [row["seq"] for row in sorted(of_mat, key=lambda row: row["scheduled_ns"])] == list(range(30))
    assert "Faults, and what they cost" in (run_dir / "report.html").read_text()
