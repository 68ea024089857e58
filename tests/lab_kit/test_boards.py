"""Boards of other architectures: what pip installs there, what they can do then, and how they get into a lab."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgebench.clock import now_s
from tests.conftest import ROOT
from tests.lab_kit.boards import BOARDS, HOME, build_wheel, equipped, installed
from tests.lab_kit.labs import EDGEBENCH, PATIENCE_S, Lab
from tests.lab_kit.machines import Disk, Machine, network
from tests.system.running import faults_of

pytestmark = [pytest.mark.long, pytest.mark.timeout(7200)]

READY_S = 60.0
SLOWLY_S = 1200.0
NOT_HERE = "no LiteRT here"
ACTIVATE = ". ~/edgebench/bin/activate"
BESIDE = """\
schema: 1
name: bedside
duration_s: 10
nodes:
  cloud: {tier: cloud}
  ward:  {tier: edge, parent: cloud}
  bed:   {tier: device, count: 2, parent: ward}
workloads:
  watch:
    task: icu-death
    source: bed
    load: {kind: fixed, rate_hz: 2}
    train: {epochs: 1, examples: 100}
    place: {infer: PLACE}
machines: {bed: pi}
"""
"""Two beds on a board, with a ward on the server."""


@pytest.fixture(scope="module", params=BOARDS)
def board(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Machine]]:
    """A board with the project, in a network of its own, and a model for it."""
    name, folder = request.param, tmp_path_factory.mktemp("board")
    layers = installed(name, build_wheel(folder), folder / "installed")
    disk = Disk(layers, folder / "own")
    home = disk.written / "opt/measured"
    home.mkdir(parents=True)
    (home / "board.py").write_bytes((ROOT / "benchmarks" / "board.py").read_bytes())
    train = (*EDGEBENCH, "train", "icu-death", "--size", "light", "--seeds", "1", "--out", str(home / "model"))
    subprocess.run(train, check=True, capture_output=True)
    with network() as net:
        yield name, net.machine("board", disk=disk)


def test_the_base_install_is_whole_and_models_run_where_there_is_a_runtime(board: tuple[str, Machine]) -> None:
    name, machine = board
    kind = BOARDS[name]
    assert machine.run(f"{HOME}/bin/pip", "check", timeout_s=SLOWLY_S).stdout == "No broken requirements found.\n"
    runs_models = kind.machine == "aarch64"
    model = ("--model", "/opt/measured/model") if runs_models else ()
    measure = (f"{HOME}/bin/python", "/opt/measured/board.py", "--json", *model)
    said = machine.run(*measure, timeout_s=SLOWLY_S).stdout
    print(f"{name}: {said}", file=sys.stderr)
    figures = json.loads(said)
    assert figures["machine"] == kind.machine
    assert figures["python"].startswith(f"{kind.python}.")
    assert figures["runtime"].startswith("ai_edge_litert" if runs_models else NOT_HERE)
    assert all(0.0 < start_s < READY_S for start_s in figures["start_s"].values())
    if runs_models:
        assert all(call_us > 0.0 for call_us in figures["model"]["call_us"].values())


@pytest.mark.parametrize("name", BOARDS)
def test_two_lines_make_a_fresh_board_a_machine_of_the_lab_that_takes_part_in_a_run(name: str, tmp_path: Path) -> None:
    layers = equipped(name)
    with network() as net:
        lab = Lab(net, tmp_path)
        machine = lab.board("pi", layers)
        install, join = lab.invite()
        machine.run("sh", "-c", install, timeout_s=SLOWLY_S)
        pasted_s = now_s()
        lab.start(machine, "-c", f"{ACTIVATE} && {join}", program=("sh",))
        took_s = now_s() - pasted_s
        said = lab.listed()["pi"]
        assert (said["arch"], said["same_code"]) == (BOARDS[name].machine, True)
        sensor = "this machine can be a sensor, and decides nothing" in lab.joined["pi"].said()
        assert sensor is (BOARDS[name].machine != "aarch64")
        if sensor:
            file = tmp_path / "refused.yaml"
            file.write_text(BESIDE.replace("PLACE", "device"))
            refused = lab.server.run(*EDGEBENCH, "run", str(file), "--executor", "lab", check=False)
            assert refused.returncode == 2
            assert "has no LiteRT, so it can be a sensor only (put bed-0, bed-1 on another machine)" in refused.stderr
        _, result, _ = lab.run(BESIDE.replace("PLACE", "edge" if sensor else "device"))
        print(f"{name}: joined in {took_s:.0f} s; {json.dumps(result)}", file=sys.stderr)
        assert faults_of(result) == []
        watch = result["workloads"]["watch"]
        assert (watch["scheduled"], watch["decided"], watch["lost"]) == (40, 40, 0)
        assert {result["nodes"][f"bed-{n}"]["machine"] for n in (0, 1)} == {"pi"}
        assert result["machines"]["pi"]["arch"] == BOARDS[name].machine
        assert lab.left() == {}
        assert took_s < READY_S < PATIENCE_S
