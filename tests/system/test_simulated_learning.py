"""A federation that takes place, and the same one simulated by what it told."""

from __future__ import annotations

from pathlib import Path
from statistics import fmean

import pytest

import edgebench
from tests.system.running import faults_of, run

LEARNING = """\
schema: 1
name: learning
seed: 5
duration_s: 12
nodes:
  cloud: {tier: cloud}
  ward:  {tier: edge, count: 2, parent: cloud}
  bed:   {tier: device, count: 4, parent: ward}
links:
  - {between: [bed, ward], latency_ms: 2}
  - {between: [ward, cloud], latency_ms: 10}
workloads:
  risk:
    task: icu-death
    source: bed
    load: {kind: fixed, rate_hz: 5}
    train: {epochs: 1, examples: 100}
"""
FEDERATED = """\
federated:
  - {workload: risk, rounds: 6, rollout_every: 0, aggregate: [edge, cloud], local_epochs: 2, learners: {at_once: 1}}
"""
ERROR = 0.3
"""Of the mean round, on a machine that does other work beside."""


def test_rounds_take_as_long_in_virtual_time(tmp_path: Path) -> None:
    (tmp_path / "streams").mkdir()
    _, alone, streams = run(tmp_path / "streams", LEARNING)
    _, beside, learning = run(tmp_path, LEARNING + FEDERATED)
    assert faults_of(alone) == faults_of(beside) == []
    simulated = edgebench.simulate(edgebench.load(learning), calibrate=[streams, learning], out=tmp_path / "simulated")
    real, said = beside["federated"]["risk"], simulated.figures.federated["risk"]
    assert [each.round for each in said.rounds] == [each["round"] for each in real["rounds"]] == [1, 2, 3, 4, 5, 6]
    assert said.partition is not None
    assert said.partition.samples == real["partition"]["samples"]
    for each, of_run in zip(said.rounds, real["rounds"], strict=True):
        assert (each.clients, each.failures, each.site_rounds) == (of_run["clients"], 0, of_run["site_rounds"])
        # The names of messages are of another length by and by.
        assert each.bytes_down == pytest.approx(of_run["bytes_down"], rel=0.01)
        assert each.bytes_up == pytest.approx(of_run["bytes_up"], rel=0.01)
    real_s = fmean(each["duration_s"] for each in real["rounds"])
    said_s = fmean(each.duration_s or 0.0 for each in said.rounds)
    assert abs(said_s / real_s - 1) < ERROR
    for link, of_run in beside["links"].items():
        # HTTP's headers, and what is said by MQTT, are known to some tens of bytes each. An edge has fetched models.
        for way in ("up_bytes",) if link.endswith("cloud") else ("up_bytes", "down_bytes"):
            assert getattr(simulated.figures.links[link], way) == pytest.approx(of_run[way], rel=0.05)
