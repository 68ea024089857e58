"""Machines that others start for a run: each finds its token, joins and ends with the run; who is missing is named."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edgebench.errors import EdgebenchError
from edgebench.executors.awaited_fleet import AwaitedFleet
from edgebench.executors.execution import RunInputs
from edgebench.fabric.spool import Spool
from tests.containers.deployments import deployment
from tests.lab.labs import command
from tests.system.running import faults_of, run_dir_of

TOPOLOGY = """\
schema: 1
name: ward
duration_s: 2
nodes:
  cloud: {tier: cloud}
  ward:  {tier: edge, parent: cloud}
  bed:   {tier: device, count: 2, parent: ward}
workloads:
  watch: {task: occupancy, source: bed, load: {kind: fixed, rate_hz: 10}, model: {runtime: fake}}
"""


def test_a_run_takes_place_on_whoever_finds_its_token_and_they_end_with_it(tmp_path: Path) -> None:
    (tmp_path / "ward.yaml").write_text(TOPOLOGY)
    tokens, runs = tmp_path / "tokens", tmp_path / "runs"
    parts = [
        command(
            *(tmp_path / name, "join", "https://127.0.0.1:46900", "--name", name),
            *("--token-file", str(tokens / name / "token"), "--once"),
        )
        for name in ("ward", "ward-bed")
    ]
    words = ["run", str(tmp_path / "ward.yaml"), "--out", str(runs), "--executor", "containers"]
    run = command(tmp_path / "server", *words, "--tokens", str(tokens))
    try:
        _, said = run.communicate(timeout=120)
        assert [each.wait(timeout=30) for each in parts] == [0, 0], said
    finally:
        for each in (run, *parts):
            each.kill()
            each.communicate()
    result = json.loads((run_dir_of(runs) / "result.json").read_text())
    assert faults_of(result) == []
    assert result["workloads"]["watch"]["decided"] == 40
    assert result["nodes"]["bed-0"]["machine"] == "ward-bed"
    assert [*tokens.rglob("token")] == []


def test_whoever_does_not_join_is_named_and_no_token_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEBENCH_HOME", str(tmp_path / "server"))
    fleet = AwaitedFleet(tmp_path / "tokens", joined_within_s=0.0)
    told: list[str] = []
    placed = fleet.place(deployment(), "t.yaml")
    fleet.hold(placed, told.append)
    inputs = RunInputs(placed, tmp_path, tmp_path, data=None, broker_url=None, traces={})
    spool = Spool(tmp_path / "spool")
    with pytest.raises(EdgebenchError) as missing, fleet.open(inputs, spool):
        pass
    spool.close()
    names = "ward-0, ward-0-bed, ward-1, ward-1-bed"
    assert str(missing.value) == f"{names}: not in the lab after 0 s (see what they say)"
    assert told == [f"waiting for {names} to join"]
    assert [*(tmp_path / "tokens").rglob("token")] == []
    assert [*(tmp_path / "server" / "containers").iterdir()] == []
