"""What an export keeps of the topology, and what it refuses before it gathers anything."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgebench.cli import main
from edgebench.experiments.given import open_topology, write_alone
from edgebench.topology.model import Trace
from edgebench.topology.strict_yaml import Value, dump, parse
from tests.topology.sound import SOUND, edited

TRACED = edited(
    ("{kind: fixed, rate_hz: 2}", "{kind: trace, file: due.txt}"),
    ("latency_ms: 20, jitter_ms: 1", "delay_trace: delays.txt"),
)


def refused(capsys: pytest.CaptureFixture[str], text: str, tmp_path: Path, *words: str) -> str:
    """What an export that must fail says: one line; and nothing is there."""
    file, out = tmp_path / "t.yaml", tmp_path / "out"
    file.write_text(text)
    assert main(["export", *words[:1], str(file), "--out", str(out), *words[1:]]) == 2
    said, err = capsys.readouterr()
    assert (said, err.count("\n"), out.exists()) == ("", 1, False)
    return err.strip().removeprefix(f"{file}: ")


def test_a_topology_stands_alone_with_overrides_traces_and_models(tmp_path: Path) -> None:
    given, folder = tmp_path / "given", tmp_path / "alone"
    given.mkdir()
    folder.mkdir()
    (given / "t.yaml").write_text(TRACED + "    model: {source: own.tflite}\n")
    (given / "due.txt").write_text("0.5\n1.5\n")
    (given / "delays.txt").write_text("20\n30\n")
    (given / "own.tflite").write_bytes(b"model")
    (given / "own.tflite.json").write_text("{}")
    before = open_topology(given / "t.yaml", ["duration_s=7", "links[0].latency_ms=9"])
    write_alone(folder, before, before.topology)
    for each in given.iterdir():
        each.unlink()

    after = open_topology(folder / "topology.yaml")
    assert (after.topology.duration_s, after.topology.links[0].latency_ms) == (7.0, 9.0)
    assert after.topology.nodes == before.topology.nodes
    workload = after.topology.workloads["risk"]
    assert isinstance(workload.load, Trace)
    assert Path(workload.load.file).read_text() == "0.5\n1.5\n"
    assert Path(str(after.topology.links[1].delay_trace)).read_text() == "20\n30\n"
    assert Path(workload.model.source).read_bytes() == b"model"
    assert Path(workload.model.source + ".json").read_text() == "{}"
    assert str(tmp_path) not in (folder / "topology.yaml").read_text()


@pytest.mark.parametrize("text", ["1e3", "yes", "0x10", "1:30", "2026-01-01", "null", "~", "", "- a", "a: b", "é"])
def test_text_that_looks_like_something_else_stays_text_when_written(text: str) -> None:
    value: Value = {"field": text, "list": [text, 1, 2.5, True, None, 1e-7]}
    assert parse(dump(value)) == value


def test_what_stands_on_this_computer_alone_is_refused(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    digest = "0" * 64
    said = refused(capsys, SOUND + f"    model: {{source: 'sha256:{digest}'}}\n", tmp_path, "compose")
    assert said == "$.workloads.risk.model.source: the registry is not in the folder (name the model's file)"
    own = edited(("task: icu-death", "task: tests.tasks.ward:TASK"))
    assert "tests.tasks.ward" in refused(capsys, own, tmp_path, "compose")


def test_a_broker_that_is_not_in_the_images_is_refused(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    said = refused(capsys, SOUND + "broker: {kind: mosquitto}\n", tmp_path, "compose")
    assert said.startswith("$.broker.kind: Mosquitto is not in python:3.")


def test_a_cluster_gets_no_real_data(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    said = refused(capsys, SOUND + "data: set\n", tmp_path, "k8s")
    assert said == "$.data: real data is not in the images (give --set data= to generate the streams)"


def test_what_containers_cannot_do_is_refused(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    said = refused(capsys, SOUND + "machines: {ward-0: pi}\n", tmp_path, "compose")
    assert said.startswith("$.machines: the containers executor cannot enforce other machines")
    shared = edited(("latency_ms: 2}", "rate_mbit_s: 5, shared: true}"))
    assert "links that share their rates have to end on one machine" in refused(capsys, shared, tmp_path, "k8s")


def test_a_folder_that_is_there_is_left_alone(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "t.yaml").write_text(SOUND)
    (tmp_path / "out").mkdir()
    assert main(["export", "compose", str(tmp_path / "t.yaml"), "--out", str(tmp_path / "out")]) == 2
    assert capsys.readouterr().err == f"--out {tmp_path / 'out'}: is there already (name another)\n"
    assert [*(tmp_path / "out").iterdir()] == []


def test_tokens_are_for_containers_that_others_start(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "t.yaml").write_text(SOUND)
    run = ["run", str(tmp_path / "t.yaml"), "--out", str(tmp_path / "runs"), "--tokens", str(tmp_path / "tokens")]
    assert main(run) == 2
    assert capsys.readouterr().err == "--tokens: is for containers (leave it out, or add --executor containers)\n"
    (tmp_path / "tokens").write_text("")
    assert main([*run, "--executor", "containers"]) == 2
    said = capsys.readouterr().err
    assert said == f"--tokens {tmp_path}/tokens/ward-0/token: Not a directory (name a folder of yours)\n"
    assert [*(tmp_path / "runs").iterdir()] == []
