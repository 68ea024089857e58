"""A lab as other machines see it: real processes at addresses of their own."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from edgebench.clock import now_s, sleep_s
from edgebench.fabric.listening import PORTS
from edgebench.lab.messages import DEVICE_PORT
from tests.lab_kit import scan
from tests.lab_kit.labs import EDGEBENCH, PATIENCE_S, PORT, RUN_S, Lab
from tests.lab_kit.machines import Task, network
from tests.system.running import faults_of


def test_a_machine_joins_from_another_address_and_nothing_but_the_labs_port_is_open(tmp_path: Path) -> None:
    with network() as net:
        lab = Lab(net, tmp_path)
        ward = lab.machine("ward")
        lab.join(ward, "--as", "edge")
        assert lab.listed()["ward"]["address"] == ward.address
        seen = json.loads(ward.run(sys.executable, scan.__file__, lab.server.address).stdout)
        assert seen == [{"port": PORT, "tls": "TLSv1.3", "old_tls": False, "plain": ""}]


TOPOLOGY = """\
schema: 1
name: seen-from-outside
seed: 3
duration_s: 25
nodes:
  cloud:  {tier: cloud}
  ward:   {tier: edge, parent: cloud}
  hall:   {tier: edge, parent: cloud}
  bed:    {tier: device, parent: ward}
  walker: {tier: device, parent: hall}
  sensor: {tier: device, parent: hall}
links:
  - {between: [bed, ward], latency_ms: 5}
workloads:
  watch:
    {task: occupancy, source: [bed, walker, sensor], load: {kind: fixed, rate_hz: 5}, model: {runtime: fake}}
machines: {ward: ward, bed: bed, sensor: esp-1}
"""
OF_PARTS = range(PORTS[0], PORTS[1] + 1)


@pytest.mark.long
def test_while_a_run_is_on_only_the_stated_ports_are_open_and_speak_tls_1_3_only(tmp_path: Path) -> None:
    with network() as net:
        lab = Lab(net, tmp_path)
        for name in ("ward", "bed"):
            lab.join(lab.machine(name))
        lab.server.run(*EDGEBENCH, "lab", "invite", "--device-only", "esp-1", "--out", str(tmp_path / "esp-1"))
        stranger = lab.machine("stranger")
        running = lab.start_run(TOPOLOGY)
        _wait_for_streams(running, tmp_path)
        addresses = (lab.server.address, *(net.machines[name].address for name in ("ward", "bed")))
        server, ward, bed = (
            json.loads(stranger.run(sys.executable, scan.__file__, address).stdout) for address in addresses
        )
        out, _ = running.popen.communicate(timeout=RUN_S)
        _, result, _ = lab.result(running, out)
    assert faults_of(result) == []
    for seen in (server, ward, bed):
        for each in seen:
            assert {**each, "port": 0} == {"port": 0, "tls": "TLSv1.3", "old_tls": False, "plain": ""}
    ports = [[each["port"] for each in seen] for seen in (server, ward, bed)]
    beyond = [[port for port in of if port not in OF_PARTS] for of in ports]
    assert beyond == [[PORT, DEVICE_PORT], [], []]
    # On the server the control plane, the cloud's broker, and where the network is measured from; at the ward its
    # broker, the relay of its link's two ways, and the network again. Nothing listens where devices are.
    assert (len(ports[0]), len(ports[2])) == (2 + 3, 0)
    assert len(ports[1]) >= 2


def _wait_for_streams(running: Task, folder: Path) -> None:
    until_s = now_s() + PATIENCE_S
    while not list(folder.glob("runs/*/work/walker/records.spool")):
        assert running.popen.poll() is None, running.said()
        assert now_s() < until_s
        sleep_s(0.2)
