"""Whole runs in which things go wrong as the topology asks: they go on, say what it cost, and leave nothing running."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from edgebench.executors.disks import left_in
from edgebench.results.rundir import read_records
from edgebench.topology import load
from edgebench.topology.fault_schedule import fault_plans
from tests.lab_kit.needs import need_root_and
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
    # What the edge has taken in and not decided as it is killed goes with it, which without durability nobody promises.
    assert edge["lost"] <= edge["devices"]
    assert device["lost"] == found["pause", "bed-3"]["lost"] == 0
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


KEPT = """\
durability: process
faults:
  - {kind: restart, node: bed-1, at_s: 1, for_s: 0.5}
  - {kind: restart, broker: ward-1, at_s: 3, for_s: 0.5}
  - {kind: restart, broker: cloud, at_s: 5, for_s: 0.5}
  - {kind: restart, site: ward-0, at_s: 7, for_s: 0.5}
"""


@pytest.mark.long
@pytest.mark.parametrize("place", ["edge", "cloud"])
def test_with_durability_nothing_is_lost_whatever_is_killed_and_started_again(place: str, tmp_path: Path) -> None:
    text = SMALL.replace("duration_s: 4", "duration_s: 12") + KEPT
    _, result, _ = run(tmp_path, text, "--set", f"workloads.watch.place.infer={place}")
    assert faults_of(result) == []
    figures = result["workloads"]["watch"]
    assert (figures["lost"], figures["duplicated_at_devices"]) == (0, 0)
    # What was due while its device was not there is not sensed.
    assert figures["missed"] > 0
    assert figures["scheduled"] + figures["missed"] == 4 * 120
    assert [fault["lost"] for fault in result["faults"]] == [0] * 4
    # What is decided at an edge does not pass the cloud's broker.
    concerned = [True, True, place == "cloud", True]
    assert [fault["recovery_s"] is not None for fault in result["faults"]] == concerned
    killed = {death["part"] for death in result["deaths"]}
    agents = {"device agent of bed-1", "device agent of bed-0, bed-2"}
    assert killed == {*agents, "ward-0", "broker of ward-0", "broker of ward-1", "broker of cloud"}
    assert all(death["expected"] and death["returns"] for death in result["deaths"])


@pytest.mark.long
def test_a_full_disk_costs_what_there_is_no_room_for_and_nothing_is_left_mounted(tmp_path: Path) -> None:
    need_root_and("mount", "umount")
    full = "durability: process\nfaults: [{kind: disk, node: bed-1, at_s: 1, for_s: 2}]\n"
    _, result, run_dir = run(tmp_path, SMALL + full)
    assert faults_of(result) == []
    figures = result["workloads"]["watch"]
    # Twenty samples of one device were due meanwhile; the page at the end of its file had room for some.
    assert 8 <= figures["dropped_by_reason"]["store-full"] <= 22
    assert figures["lost"] == figures["dropped"]
    (fault,) = result["faults"]
    assert (fault["devices"], fault["lost"]) == (1, figures["lost"])
    assert any("lost to faults" in note for note in result["verdict"]["notes"])
    assert left_in(run_dir.parent) == []
