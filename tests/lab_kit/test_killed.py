"""A command that serves its lab itself and is killed: what its machines do, what is kept, what the next one finds."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edgebench.clock import now_s, sleep_s
from tests.lab_kit.labs import Lab
from tests.lab_kit.machines import Machine, network
from tests.system.running import faults_of

pytestmark = [pytest.mark.long, pytest.mark.timeout(1200)]

TOPOLOGY = """\
schema: 1
name: killed
seed: 3
duration_s: {duration_s}
nodes:
  cloud: {{tier: cloud}}
  ward:  {{tier: edge, count: 2, parent: cloud}}
  bed:   {{tier: device, count: 4, parent: ward}}
machines: {{ward-0: one, ward-1: two, bed-0: two}}
workloads:
  watch: {{task: icu-death, source: bed, load: {{kind: fixed, rate_hz: 5}}, model: {{runtime: fake}}}}
"""
LOST_S = 30.0
AT_ONCE_S = 15.0


def test_machines_end_their_parts_and_the_next_command_finds_them(tmp_path: Path) -> None:
    with network() as net:
        lab = Lab(net, tmp_path)
        machines = [lab.machine(name) for name in ("one", "two")]
        for machine in machines:
            lab.join(machine)
        assert lab.serving.end() == 0

        run_dir, killed_s = killed_in_mid_run(lab)
        assert lab.server.left(AT_ONCE_S) == []
        assert all(len(parts_on(machine)) >= 2 for machine in machines)  # nobody has told them
        while any(parts_on(machine) for machine in machines):
            assert now_s() - killed_s < LOST_S + AT_ONCE_S
            sleep_s(0.2)
        assert now_s() - killed_s > LOST_S - AT_ONCE_S
        result = json.loads((run_dir / "result.json").read_text())
        assert result["verdict"]["reasons"][0] == "the command edgebench itself was killed"
        assert result["workloads"]["watch"]["decided"] > 20
        assert (run_dir / "report.html").exists()

        killed_in_mid_run(lab)
        _, result, _ = lab.run(TOPOLOGY.format(duration_s=4))  # at once, while they still run what was killed
        assert faults_of(result) == []
        assert result["workloads"]["watch"]["lost"] == 0
        assert lab.left() == {}


def killed_in_mid_run(lab: Lab) -> tuple[Path, float]:
    """Start a long run, and kill its command while samples stream; its run directory, and when it was killed."""
    running = lab.start_run(TOPOLOGY.format(duration_s=300))
    run_dir = lab.until_streaming(running, decided=40)
    running.process.kill()
    return run_dir, now_s()


def parts_on(machine: Machine) -> list[str]:
    """What runs there besides `edgebench join`."""
    return [line for line in machine.left(timeout_s=0.0) if " join https://" not in line]
