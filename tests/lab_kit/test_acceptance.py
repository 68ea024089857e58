"""A lab of four machines on one computer, one of them an emulated board: whole runs there, and machines that die."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator

import pytest

from edgebench.clock import now_s
from tests.conftest import ROOT
from tests.lab_kit.boards import equipped
from tests.lab_kit.labs import EDGEBENCH, RUN_S, Lab
from tests.lab_kit.machines import network
from tests.system.running import faults_of

pytestmark = [pytest.mark.long, pytest.mark.timeout(7200)]

INSTALL_S = 1200.0
READY_S = 60.0
MAPPED = "machines: {ward-0: ward-a, ward-1: ward-b, bed-0: pi, bed-1: pi}\n"
"""The other six beds, and the cloud, are on the server."""
BROKEN_OFF = """\
schema: 1
name: broken-off
seed: 3
duration_s: 90
nodes:
  cloud: {tier: cloud}
  ward:  {tier: edge, count: 2, parent: cloud}
  bed:   {tier: device, count: 4, parent: ward}
machines: {ward-0: ward-a, ward-1: ward-b, bed-0: pi}
workloads:
  watch: {task: icu-death, source: bed, load: {kind: fixed, rate_hz: 5}, model: {runtime: fake}}
"""


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """A server, a board that was fresh before the two lines were pasted, and two more machines."""
    folder = tmp_path_factory.mktemp("lab")
    layers = equipped("bookworm-arm64")
    with network() as net:
        lab = Lab(net, folder)
        board = lab.board("pi", layers)
        install, join = lab.invite("--as", "device")
        began_s = now_s()
        board.run("sh", "-c", install, timeout_s=INSTALL_S)
        pasted_s = now_s()
        lab.start(board, "-c", f". ~/edgebench/bin/activate && exec {join}", program=("sh",))
        ready_s = now_s()
        said = f"installed in {pasted_s - began_s:.0f} s, ready {ready_s - pasted_s:.1f} s after that"
        print(f"pi: {said}", file=sys.stderr)
        assert ready_s - pasted_s < READY_S, said
        for name in ("ward-a", "ward-b"):
            # In a group of its own, as a shell gives it one.
            lab.join(lab.machine(name), "--as", "edge", program=("setsid", *EDGEBENCH))
        yield lab


@pytest.mark.parametrize("name", ["icu-ward", "icu-federated"])
def test_a_run_across_a_board_and_two_wards_is_whole(lab: Lab, name: str) -> None:
    topology = (ROOT / "topologies" / f"{name}.yaml").read_text() + MAPPED
    status, result, run_dir = lab.run(topology, "--duration-s", "120")  # to train takes long beside other tests
    print(f"{name}: exit {status}, {result['verdict']}", file=sys.stderr)
    assert faults_of(result) == []
    for workload in result["workloads"].values():
        assert (workload["lost"], workload["duplicated"], workload["unexpected"]) == (0, 0, 0)
        assert workload["decided"] == workload["scheduled"] > 0
        assert sum(model["n"] for model in workload["models"]) == workload["decided"]
    for federated in result["federated"].values():
        assert [(each["clients"], each["failures"]) for each in federated["rounds"]] == [(2, 0)] * 5
        assert min(federated["partition"]["samples"][bed] for bed in ("bed-0", "bed-1")) > 0
    where = {node: each["machine"] for node, each in result["nodes"].items()}
    assert where["bed-0"] == where["bed-1"] == "pi"
    assert (where["ward-0"], where["ward-1"], where["cloud"], where["bed-2"]) == ("ward-a", "ward-b", "here", "here")
    computers = {machine: each["computer"] for machine, each in result["machines"].items()}
    assert computers == dict.fromkeys(("here", "pi", "ward-a", "ward-b"), "here")
    assert result["machines"]["pi"]["arch"] == "aarch64"
    logs = {path.relative_to(run_dir / "logs").as_posix() for path in (run_dir / "logs").rglob("*.log")}
    assert {"cloud.log", "pi/bed-0.log", "ward-a/ward-0.log", "ward-b/ward-1.log"} <= logs
    assert lab.left() == {}


def test_a_machine_that_is_killed_in_mid_run_is_named_and_nothing_is_left_on_any(lab: Lab) -> None:
    running = lab.start_run(BROKEN_OFF)
    run_dir = lab.until_streaming(running, decided=60)
    joined = lab.joined["ward-a"].process
    os.killpg(os.getpgid(joined.pid), signal.SIGKILL)
    assert lab.net.machines["ward-a"].left() == []
    out, _ = running.popen.communicate(timeout=RUN_S)
    status, result, found = lab.result(running, out)
    assert found == run_dir
    assert status == 1
    (why,) = [why for why in result["verdict"]["reasons"] if why.startswith("machine ward-a")]
    print(why, file=sys.stderr)
    assert "ward-0" in why
    watch = result["workloads"]["watch"]
    assert watch["decided"] > 40
    assert lab.left() == {}
