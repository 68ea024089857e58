"""Parts that are killed in mid-run: the verdict names them, what was recorded is kept, and nothing is left running."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
from pathlib import Path
from typing import Any

import psutil
import pytest

from edgebench.clock import sleep_s
from edgebench.results.rundir import read_records
from tests.conftest import ROOT
from tests.system.running import RUN_PATIENCE_S, SMALL, Streaming, command, lines_of, run_dir_of, streaming

LONG = SMALL.replace("duration_s: 4", "duration_s: 60")


def check_ended_well(run: Streaming, result: dict[str, Any], *names: str) -> None:
    """The verdict has a reason with all these words, at least 40 decisions were kept, no process was left."""
    assert result["verdict"]["valid"] is False
    reasons = result["verdict"]["reasons"]
    assert any(all(name in reason for name in names) for reason in reasons), reasons
    assert result["workloads"]["watch"]["decided"] >= 40
    assert read_records(run.run_dir).num_rows >= 40
    assert (run.run_dir / "report.html").is_file()
    assert run.left() == []


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (("edge_node", "ward-0"), ("ward-0", "signal 9")),
        (("broker-ward-1.conf",), ("broker of ward-1", "signal 9")),
        (("-m cloud",), ("cloud", "signal 9")),
    ],
    ids=["edge node", "broker", "cloud"],
)
def test_a_part_killed_in_mid_run_is_named_in_the_verdict(
    tmp_path: Path, words: tuple[str, ...], named: tuple[str, ...]
) -> None:
    with streaming(tmp_path, LONG) as run:
        run.part(*words).kill()
        status, result = run.end()
        assert status == 1
        check_ended_well(run, result, *named)


@pytest.mark.parametrize(
    ("end", "how"), [("kill", "by signal 9"), ("terminate", "status 3")], ids=["killed", "told to stop"]
)
def test_a_device_agent_that_ends_in_mid_run_is_named_and_the_others_go_on(tmp_path: Path, end: str, how: str) -> None:
    with streaming(tmp_path, SMALL.replace("duration_s: 4", "duration_s: 8")) as run:
        getattr(run.part("device_agent", "bed-1"), end)()
        status, result = run.end()
        assert status == 1
        check_ended_well(run, result, "device agent of bed-1, bed-3", how)
        per_node = read_records(run.run_dir)["node"].to_pylist()
        # Two of four devices, each with its 80 samples.
        assert (per_node.count("bed-0"), per_node.count("bed-2")) == (80, 80)


def test_without_any_device_agent_a_run_ends(tmp_path: Path) -> None:
    with streaming(tmp_path, LONG) as run:
        for agent in [run.part("device_agent", device) for device in ("bed-0", "bed-1")]:
            agent.kill()
        status, result = run.end()
        assert status == 1
        check_ended_well(run, result, "device agent of bed-0, bed-2", "signal 9")
        check_ended_well(run, result, "device agent of bed-1, bed-3", "signal 9")


def test_data_that_is_not_there_is_one_line_and_leaves_nothing_running(tmp_path: Path) -> None:
    topology = tmp_path / "topology.yaml"
    topology.write_text(SMALL)
    (tmp_path / "empty").mkdir()
    line = command(topology, tmp_path / "runs", "--data", str(tmp_path / "empty"))
    done = subprocess.run(line, capture_output=True, text=True, timeout=RUN_PATIENCE_S)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    last = done.stderr.strip().splitlines()[-1]
    assert str(tmp_path / "empty") in last
    assert "PhysioNet" in last
    result = json.loads((run_dir_of(tmp_path / "runs") / "result.json").read_text())
    assert not any("agent" in reason for reason in result["verdict"]["reasons"])


def test_a_task_that_fails_in_the_report_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    topology = tmp_path / "topology.yaml"
    topology.write_text(
        SMALL.replace("icu-death", "tests.cloud.tiny:UNSCORED").replace("runtime: fake", "runtime: keras")
    )
    line = command(topology, tmp_path / "runs", "--set", "nodes.ward.count=1")
    done = subprocess.run(line, capture_output=True, text=True, timeout=RUN_PATIENCE_S)
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    run_dir = run_dir_of(tmp_path / "runs").resolve()
    last = done.stderr.strip().splitlines()[-1]
    assert "task 'tests.cloud.tiny:UNSCORED': score failed: ValueError: 160 outputs, not 60 (" in last
    assert last.endswith(f"; the run is kept: mend the task, then edgebench report {run_dir}")
    assert (run_dir / "records.parquet").exists()


def test_a_broker_that_is_not_there_is_one_line_before_anything_starts(tmp_path: Path) -> None:
    topology = tmp_path / "topology.yaml"
    topology.write_text(SMALL)
    with socket.socket() as held:  # who only holds a port refuses connections, and nobody else can listen there
        held.bind(("127.0.0.1", 0))
        port = held.getsockname()[1]
        line = command(topology, tmp_path / "runs", "--broker", f"mqtt://ann:s3cret@127.0.0.1:{port}")
        done = subprocess.run(line, capture_output=True, text=True, timeout=60.0)
    assert done.returncode == 2
    assert len(done.stderr.strip().splitlines()) == 1
    assert f"127.0.0.1:{port}" in done.stderr
    assert "s3cret" not in done.stderr
    assert not (tmp_path / "runs").exists()


def test_a_relay_killed_in_mid_run_is_named_in_the_verdict(tmp_path: Path) -> None:
    shaped = LONG + "links:\n  - {between: [bed, ward], latency_ms: 1}\n"
    with streaming(tmp_path, shaped) as run:
        run.part("edgebench.fabric.relay").kill()
        status, result = run.end()
        assert status == 1
        check_ended_well(run, result, "link relay", "signal 9")


def test_the_command_itself_killed_in_mid_run_still_gets_a_verdict(tmp_path: Path) -> None:
    with streaming(tmp_path, LONG) as run:
        run.process.kill()
        run.process.wait()
        assert run.left() == []
        _, result = run.end()
        check_ended_well(run, result, "edgebench itself was killed")
        assert {"broker-cloud.log", "cloud.log"} <= {log.name for log in (run.run_dir / "logs").iterdir()}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["Ctrl-C", "SIGTERM"])
def test_an_interrupted_run_keeps_what_it_measured(tmp_path: Path, number: signal.Signals) -> None:
    with streaming(tmp_path, LONG) as run:
        run.process.send_signal(number)
        status, result = run.end()
        assert status == 1
        check_ended_well(run, result, "interrupted")


def test_ctrl_c_while_the_run_is_being_prepared_leaves_nothing_running(tmp_path: Path) -> None:
    topology = tmp_path / "topology.yaml"
    topology.write_text(LONG)
    process = subprocess.Popen(command(topology, tmp_path / "runs"), stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    while not list((tmp_path / "runs").glob("*/work/cloud")):
        assert process.poll() is None
        sleep_s(0.05)
    parts = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60.0)
    assert process.returncode == 1
    _, alive = psutil.wait_procs(parts, timeout=10.0)
    assert lines_of(alive) == []
    assert (run_dir_of(tmp_path / "runs") / "result.json").is_file()


@pytest.mark.parametrize(
    ("more", "mend"),
    [
        ("compress={kind: jpeg}", "compress: samples of icu-death are float32 [48, 76], no pictures (remove it)"),
        ("task=face-recognition", "no probabilities, so nothing tells how sure a model is (use device, edge or cloud)"),
    ],
)
def test_what_only_the_data_or_the_task_can_tell_names_file_and_place(more: str, mend: str, tmp_path: Path) -> None:
    topology = tmp_path / "topology.yaml"
    topology.write_text(SMALL.replace(", model: {runtime: fake}", ""))
    cascade = ["--set", "workloads.watch.place.infer=cascade"] if more.startswith("task") else []
    line = command(topology, tmp_path / "runs", *cascade, "--set", f"workloads.watch.{more}")
    done = subprocess.run(line, capture_output=True, text=True, timeout=RUN_PATIENCE_S)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith(f"{topology}: $.workloads.watch.")
    assert last.endswith(mend)
