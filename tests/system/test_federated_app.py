"""A Flower app on a topology: its server beside the cloud, its clients on the devices, over the streams' own links."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgebench.cli import main
from edgebench.clock import now_s, sleep_s
from edgebench.fabric.records import Rounded
from edgebench.fabric.spool import read_spool
from tests.system.running import SMALL, Streaming, faults_of, run, streaming

APP = Path(__file__).parent / "apps" / "adding"
SHARE = (1 * 1 + 2 * 2 + 3 * 3 + 4 * 4) / (1 + 2 + 3 + 4)
"""What a round adds with all four clients: their numbers, weighted by as many examples."""


def federated(text: str, **config: Any) -> str:
    """With a deadline for learners whose start takes its time beside other tests."""
    settings = ", ".join(f"{name.replace('_', '-')}: {value!r}" for name, value in config.items())
    return text + f"federated:\n  - {{workload: watch, app: {APP}, config: {{{settings}}}, deadline_s: 60}}\n"


def rounds_of(result: dict[str, Any]) -> list[dict[str, Any]]:
    rounds: list[dict[str, Any]] = result["federated"]["watch"]["rounds"]
    return rounds


def wait_for_rounds(streaming_run: Streaming, count: int) -> None:
    """Until so many rounds have been written down."""
    until_s = now_s() + 60.0
    spool = streaming_run.run_dir / "work" / "cloud" / "records.spool"
    while sum(isinstance(entry, Rounded) for entry in read_spool(spool)) < count:
        assert now_s() < until_s
        assert streaming_run.process.poll() is None
        sleep_s(0.05)


def test_an_app_runs_on_the_devices_while_they_stream(tmp_path: Path) -> None:
    _, result, run_dir = run(tmp_path, federated(SMALL, rounds=3, takes_s=0.3, out="model.npy"))
    assert faults_of(result) == []
    # What an app writes to where it stands is the run's own.
    files = run_dir / "files"
    assert np.load(files / "cloud" / "watch" / "model.npy") == pytest.approx(np.full(1000, 3 * SHARE), rel=1e-6)
    answers = "".join(file.read_text() for file in files.glob("bed-*/answers.txt")).split()
    assert sorted(answers) == sorted("1234" * 3)
    rounds = rounds_of(result)
    assert [each["round"] for each in rounds] == [1, 2, 3]
    assert [(each["clients"], each["failures"], each["skipped"]) for each in rounds] == [(4, 0, None)] * 3
    assert all(each["bytes_down"] >= 4 * 4000 and each["bytes_up"] >= 4 * 4000 for each in rounds)
    assert result["workloads"]["watch"]["decided"] == 160
    assert "Federated learning" in (run_dir / "report.html").read_text()
    # The phases of a round add up to it.
    for each in rounds:
        phases = each["phases_s"]
        assert sum(phases.values()) == pytest.approx(each["duration_s"], abs=1e-4)
        assert phases["learn"] >= 0.3


def test_a_client_that_fails_is_named_and_the_others_make_the_model(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "model.npy"
    text = federated(SMALL, rounds=2, garbage="3", out=str(out)).replace("deadline", "keep_answers: false, deadline")
    _, result, run_dir = run(tmp_path, text)
    assert not (run_dir / "federated" / "watch").exists()
    assert main(["run", str(tmp_path / "topology.yaml"), "--resume", str(run_dir), "--out", str(tmp_path)]) == 2
    why = "no answers of 'watch' are kept (set keep_answers: true; an earlier run without it has to be run anew)"
    assert capsys.readouterr().err == f"--resume {run_dir}: {why}\n"
    share = (1 + 4 + 16) / (1 + 2 + 4)
    assert np.load(out) == pytest.approx(np.full(1000, 2 * share), rel=1e-6)
    for each in rounds_of(result):
        assert each["failures"] == 1
        assert list(each["failed"]) == ["bed-2"]
        assert "nothing to say" in each["failed"]["bed-2"]


@pytest.mark.timeout(600)
@pytest.mark.long  # tests/federated/test_engines.py has the engines without a whole run
@pytest.mark.parametrize("engine", ["ray", "superlink"])
def test_an_engine_of_flower_s_ends_with_the_same_model(tmp_path: Path, engine: str) -> None:
    out = tmp_path / "model.npy"
    text = federated(SMALL, rounds=1, out=str(out)).replace("deadline_s: 60", f"deadline_s: 240, engine: {engine}")
    _, result, _ = run(tmp_path, text)
    assert faults_of(result) == []
    assert result["federated"]["watch"]["engine"] == engine
    # Bit for bit what is worked out in the order of the clients, as over MQTT.
    total = sum((np.zeros(1000, np.float32) + np.float32(n)) * (n / 10) for n in (1, 2, 3, 4))
    assert np.array_equal(np.load(out), np.asarray(total, np.float32))
    assert [(each["clients"], each["failures"]) for each in rounds_of(result)] == [(4, 0)]


TWO_AGENTS = """\
schema: 1
name: small
seed: 3
duration_s: 25
nodes:
  cloud: {tier: cloud}
  ward:  {tier: edge, parent: cloud}
  bed:   {tier: device, count: 2, parent: ward}
  cot:   {tier: device, count: 2, parent: ward}
workloads:
  watch: {task: icu-death, source: [bed, cot], load: {kind: fixed, rate_hz: 10}, model: {runtime: fake}}
"""


def test_a_device_killed_in_mid_round_is_named_and_the_round_ends(tmp_path: Path) -> None:
    out = tmp_path / "model.npy"
    text = federated(TWO_AGENTS, rounds=4, takes_s=1.0, out=str(out))
    with streaming(tmp_path, text) as run_:
        wait_for_rounds(run_, 1)
        run_.part("device_agent", "cot-0").kill()
        status, result = run_.end()
        assert status == 1
        assert run_.left() == []
    assert any("cot-0" in reason and "signal 9" in reason for reason in result["verdict"]["reasons"])
    rounds = rounds_of(result)
    assert len(rounds) == 4
    assert rounds[0]["failures"] == 0
    assert {"cot-0", "cot-1"} <= set(rounds[-1]["failed"])
    assert rounds[-1]["failed"]["cot-0"] == "offline"
    assert rounds[-1]["duration_s"] < 15
    assert np.isfinite(np.load(out)).all()
    assert result["workloads"]["watch"]["decided"] >= 400


def test_an_uplink_cut_in_mid_round_costs_that_round_and_no_other(tmp_path: Path) -> None:
    out = tmp_path / "model.npy"
    text = TWO_AGENTS.replace("duration_s: 25", "duration_s: 12")
    text += "faults: [{at_s: 2, kind: down, link: ward -> cloud, for_s: 4}]\n"
    _, result, _ = run(tmp_path, federated(text, rounds=6, takes_s=0.4, out=str(out)))
    assert faults_of(result) == []
    (hit,) = [each for each in rounds_of(result) if each["failures"]]
    assert set(hit["failed"].values()) == {"offline"}
    # Who had answered before the cut makes the round's model; without anybody it is skipped.
    answered = [n for n, node in enumerate(("bed-0", "bed-1", "cot-0", "cot-1"), 1) if node not in hit["failed"]]
    assert (hit["skipped"] is None) == bool(answered)
    step = sum(n * n for n in answered) / sum(answered) if answered else 0.0
    assert np.load(out) == pytest.approx(np.full(1000, 5 * SHARE + step), rel=1e-5)


def test_a_run_is_gone_on_with_after_the_cloud_was_killed(tmp_path: Path) -> None:
    out = tmp_path / "model.npy"
    text = federated(TWO_AGENTS, rounds=5, takes_s=0.5, out=str(out))
    with streaming(tmp_path, text) as run_:
        wait_for_rounds(run_, 2)
        run_.part("-m cloud ").kill()
        run_.end()
        assert run_.left() == []
        earlier = run_.run_dir
    assert not out.exists()
    kept = len(list((earlier / "federated" / "watch" / "state").glob("*.ebf")))
    assert kept >= 1  # a round may be told before its answers are on the disk, and no more than one
    _, result, run_dir = run(tmp_path, text, "--resume", str(earlier), "--duration-s", "8")
    assert faults_of(result) == []
    assert np.load(out) == pytest.approx(np.full(1000, 5 * SHARE), rel=1e-6)
    assert [each["resumed"] for each in rounds_of(result)] == [True] * kept + [False] * (5 - kept)
    assert len(list((run_dir / "federated" / "watch" / "state").glob("*.ebf"))) == 5
