"""A device without Python in a run: what it sends is decided, and nobody waits for it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from edgebench.clock import now_s, sleep_s
from edgebench.lab.devices import write_credential
from tests.conftest import ROOT
from tests.lab.labs import Lab
from tests.system.running import RUN_PATIENCE_S, command, faults_of

TOPOLOGY = """\
schema: 1
name: with-a-board
seed: 3
duration_s: 8
nodes:
  cloud:  {tier: cloud}
  ward:   {tier: edge, parent: cloud}
  bed:    {tier: device, parent: ward}
  sensor: {tier: device, parent: ward}
workloads:
  watch: {task: occupancy, source: [bed, sensor], load: {kind: fixed, rate_hz: 10}, model: {runtime: fake}}
machines: {sensor: esp-1}
"""
ALONE = TOPOLOGY.replace("  bed:    {tier: device, parent: ward}\n", "").replace("[bed, sensor]", "sensor")
SAMPLE = {"id": "from-the-board", "values": [[0.5] * 5] * 10}


@pytest.mark.parametrize(("text", "scheduled"), [(TOPOLOGY, 80), (ALONE, 0)], ids=["beside another", "alone"])
def test_a_board_that_publishes_json_gets_its_decisions_and_the_run_is_valid(
    lab: Lab, tmp_path: Path, mosquitto: Path, device_port: int, text: str, scheduled: int
) -> None:
    folder = tmp_path / "esp-1"
    write_credential(lab.client.invite_device("esp-1"), folder)
    (folder / "sample.json").write_text(json.dumps(SAMPLE))
    topology = tmp_path / "topology.yaml"
    topology.write_text(text)
    running = subprocess.Popen(
        command(topology, tmp_path / "runs", "--json", "--executor", "lab"),
        env={**os.environ, "EDGEBENCH_HOME": str(lab.home), "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    decisions: list[dict[str, object]] = []
    until_s = now_s() + RUN_PATIENCE_S
    while running.poll() is None and now_s() < until_s and not decisions:
        decisions = _asked(folder, "watch")
    out, err = running.communicate(timeout=RUN_PATIENCE_S)
    assert out, err
    result = json.loads(out)
    assert faults_of(result) == []
    assert decisions[0]["id"] == "from-the-board"
    assert decisions[0]["decider"] == "ward"
    watch = result["workloads"]["watch"]
    assert watch["plain_json"] >= 1
    assert (watch["scheduled"], watch["lost"]) == (scheduled, 0)
    assert result["nodes"]["sensor"]["machine"] == "esp-1"


def _asked(folder: Path, workload: str) -> list[dict[str, object]]:
    """What the board hears on a sample, by the programs that the documentation tells; nothing where no run is on."""
    environment = {"XDG_CONFIG_HOME": ".", "PATH": os.environ["PATH"]}
    topic = f"eb/now/esp-1/{workload}"
    listening = subprocess.Popen(
        [str(shutil.which("mosquitto_sub")), "-W", "3", "-C", "1", "-t", f"{topic}/decision"],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    publish = ["mosquitto_pub", "-q", "1", "-t", f"{topic}/sample", "-f", "sample.json"]
    while True:  # what is decided before the other program has subscribed, that one does not hear
        sleep_s(0.5)
        subprocess.run(publish, cwd=folder, env=environment, capture_output=True)
        if listening.poll() is not None:
            break
    heard, _ = listening.communicate()
    return [json.loads(line) for line in heard.splitlines()]
