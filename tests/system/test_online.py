"""A slow edge and a quick cloud: the edge moves its workload as the link between them changes, and loses nothing."""

from __future__ import annotations

import json
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest

from edgebench.results.rundir import read_records
from edgebench.topology.profile_files import written
from tests.profiles import inference, profile
from tests.system.running import faults_of, run

SLOW_EDGE = profile(inference=(inference(1, 200.0), inference(8, 250.0)))
"""Some 40 ms by the cloud, as long as the link is good, and 300 by the edge."""
TOPOLOGY = """\
schema: 1
name: online
seed: 3
duration_s: 11
nodes:
  cloud: {tier: cloud}
  ward:  {tier: edge, parent: cloud, profile: slow.json}
  bed:   {tier: device, count: 2, parent: ward}
links:
  - {between: [ward, cloud], latency_ms: 5, rate_mbit_s: 50}
workloads:
  watch: {task: icu-death, source: bed, load: {kind: fixed, rate_hz: 4}, model: {runtime: fake}, place: {infer: cloud}}
"""
DEGRADED = """\
faults:
  - {kind: degrade, link: ward -> cloud, at_s: 2, for_s: 5, to: {latency_ms: 500}}
"""
CUT = """\
durability: process
faults:
  - {kind: down, link: ward -> cloud, at_s: 2, for_s: 5}
  - {kind: restart, node: ward, at_s: 6, for_s: 0.2}
"""

_ATTEMPTS, _STOOD_STILL_MS = 3, 500.0
"""A machine that stands still for as long as a link is bad tells nothing of what becomes of that."""


def run_online(tmp_path: Path, text: str, *changes: str, sent: int = 88) -> tuple[dict[str, Any], Path]:
    words = [word for change in changes for word in ("--set", change)]
    for attempt in range(_ATTEMPTS):
        folder = tmp_path / str(attempt)
        folder.mkdir()
        (folder / "slow.json").write_bytes(written(SLOW_EDGE))
        _, result, run_dir = run(folder, text, "--placement", "online", *words)
        assert faults_of(result) == []
        figures = result["workloads"]["watch"]
        counts = [figures[key] for key in ("scheduled", "decided", "lost", "duplicated_at_devices", "unexpected")]
        assert counts == [sent, sent, 0, 0, 0]
        if figures["slip_ms"]["p99"] < _STOOD_STILL_MS:
            break
    return result, run_dir


def test_a_workload_leaves_a_link_that_becomes_slow_and_comes_back_when_it_is_good_again(tmp_path: Path) -> None:
    result, run_dir = run_online(tmp_path, TOPOLOGY + DEGRADED, "duration_s=14", sent=112)
    figures = result["workloads"]["watch"]
    away, back = result["replacements"]
    assert (away["workload"], away["site"], away["left"], away["to"]) == ("watch", "ward", "cloud", "edge")
    assert (back["left"], back["to"]) == ("edge", "cloud")
    assert 2.0 < away["at_s"] < 7.0 < back["at_s"]
    # By the slow link a sample is 500 ms under way, and its decision as long.
    assert away["predicted_ms"] < 0.8 * away["measured_ms"]
    assert away["after_ms"] > 200.0
    assert back["measured_ms"] > 200.0
    assert back["predicted_ms"] < 0.8 * back["measured_ms"]
    assert back["after_ms"] < back["measured_ms"]
    # 8 samples a second, a second under way: the cloud decided what it had been sent.
    assert away["in_flight"] >= 4
    assert (away["lost"], back["lost"], figures["duplicated"]) == (0, 0, 0)
    rows = read_records(run_dir).to_pylist()
    came_ns = sorted((row["forward_in_ns"] or row["received_ns"], row["decider"]) for row in rows)
    assert [decider for decider, _ in groupby(decider for _, decider in came_ns)] == ["cloud", "ward", "cloud"]
    assert figures["decided_by"] == {
        tier: sum(row["decider"] == node for row in rows) for tier, node in (("edge", "ward"), ("cloud", "cloud"))
    }
    assert len({row["digest"] for row in rows}) == 1
    assert "place.online={}" in json.loads((run_dir / "overrides.json").read_text())
    assert "Workloads that were moved" in (run_dir / "report.html").read_text()
    assert figures["place"] == "cloud, online"


@pytest.mark.long  # tests/edge_node/test_online.py has an uplink that is cut, and test_durable.py restarts
def test_without_an_uplink_it_goes_on_at_the_edge_and_a_restart_of_that_loses_and_repeats_nothing(
    tmp_path: Path,
) -> None:
    result, _ = run_online(tmp_path, TOPOLOGY + CUT)
    away = result["replacements"][0]
    assert (away["left"], away["to"], away["lost"]) == ("cloud", "edge", 0)
    assert 2.0 < away["at_s"] < 6.0
    # What the cloud had not been sent waits for the link, and is decided by it then.
    assert away["in_flight"] >= 4
    assert away["after_ms"] > 200.0


@pytest.mark.long  # tests/core/test_replacing.py has places that cannot keep up
def test_an_edge_that_cannot_keep_up_moves_its_workload_to_the_cloud_and_not_back(tmp_path: Path) -> None:
    # One by one the edge decides 5 a second, and 8 come.
    one_by_one = ["duration_s=8", "workloads.watch.batch.max_batch=1", "workloads.watch.place.infer=edge"]
    result, _ = run_online(tmp_path, TOPOLOGY, *one_by_one, sent=64)
    (away,) = result["replacements"]
    assert (away["left"], away["to"], away["lost"]) == ("edge", "cloud", 0)
    assert away["measured_ms"] > 200.0
    assert away["predicted_ms"] < 0.8 * away["measured_ms"]
    # What had come by then waits for the edge, which goes on with it.
    assert away["in_flight"] >= 3
    decided_by = result["workloads"]["watch"]["decided_by"]
    assert decided_by["edge"] + decided_by["cloud"] == 64
    assert decided_by["cloud"] > decided_by["edge"] / 2
