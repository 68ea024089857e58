"""A run in which every node is emulated, through the command line."""

from __future__ import annotations

from pathlib import Path

import pytest

import edgebench
from edgebench.results.rundir import read_records
from edgebench.topology.profile_files import written
from edgebench.topology.profiles import Power
from tests.profiles import SLOW, profile
from tests.system.running import faults_of, run

TOPOLOGY = """\
schema: 1
name: emulated
seed: 3
duration_s: 4
nodes:
  cloud: {tier: cloud, profile: slow.json}
  ward:  {tier: edge, parent: cloud, profile: slow.json}
  bed:   {tier: device, count: 4, parent: ward, profile: slow.json}
workloads:
  here:  {task: icu-death, source: bed, load: {kind: fixed, rate_hz: 2}, model: {runtime: fake}, place: {infer: device}}
  near:  {task: icu-death, source: bed, load: {kind: fixed, rate_hz: 2}, model: {runtime: fake}}
  there: {task: icu-death, source: bed, load: {kind: fixed, rate_hz: 2}, model: {runtime: fake}, place: {infer: cloud}}
"""
LEAST_MS = {"here": 20.0, "near": 33.7, "there": 47.4}
"""Its model takes 20 ms. Of a sample of 14.7 kB a machine that sends it takes 3.9 ms, its broker 1.3, one that takes it
in 2.6; of an answer 3, 1 and 2. One machine sends and one takes in on the way to the edge, to the cloud, and back."""


def test_every_node_takes_as_long_as_its_profiles_machine_would(tmp_path: Path) -> None:
    (tmp_path / "slow.json").write_bytes(written(SLOW))
    _, result, run_dir = run(tmp_path, TOPOLOGY)
    assert faults_of(result) == []
    assert result["figures"] == "emulated"
    rows = read_records(run_dir).to_pydict()
    for name, figures in result["workloads"].items():
        assert figures["decided"] == figures["scheduled"] == 32
        of_it = [place for place, workload in enumerate(rows["workload"]) if workload == name]
        infer_ms = {(rows["finished_ns"][each] - rows["started_ns"][each]) / 1e6 for each in of_it}
        # Alone, or several together: the model takes any number, which is interpolated between one and eight.
        assert {round(each, 6) for each in infer_ms} <= {round(20 + 20 * (n - 1) / 7, 6) for n in range(1, 9)}
        assert 20.0 in infer_ms
        latency_ms = sorted((rows["arrived_ns"][each] - rows["captured_ns"][each]) / 1e6 for each in of_it)
        assert latency_ms[0] > LEAST_MS[name]
    for name, node in result["nodes"].items():
        assert (node["profile"], node["emulated"]["by"]) == ("slow-board", "measured"), name
        assert node["emulated"]["released"] > 0, name
    assert "slow-board" in (run_dir / "report.html").read_text()
    assert (run_dir / "profiles" / "slow-board.json").is_file()


def test_a_simulation_has_nodes_draw_what_the_emulated_ones_did(tmp_path: Path) -> None:
    """By the records of the run, and what the profile holds of messages."""
    metered = profile(cores=8, power=Power(2.0, 6.0, "a plug", measured=True))
    (tmp_path / "slow.json").write_bytes(written(metered))
    _, result, run_dir = run(tmp_path, TOPOLOGY)
    assert faults_of(result) == []
    modelled = edgebench.simulate(tmp_path / "topology.yaml", calibrate=[run_dir], out=tmp_path / "simulated")
    for name, node in modelled.figures.nodes.items():
        assert node.energy is not None
        found = result["nodes"][name]["energy"]
        assert node.energy.idle_j == pytest.approx(found["idle_j"], rel=0.05)
        assert node.energy.work_j == pytest.approx(found["work_j"], rel=0.1), name
