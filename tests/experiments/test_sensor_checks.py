"""What is said of sensors on this machine, beside what a run has here."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from edgebench.errors import EdgebenchError
from edgebench.experiments.sensor_checks import check_sensors
from edgebench.fabric.sensors import parse_sensor
from edgebench.topology import load, resolve
from edgebench.topology.deployment import Deployment

HOME = """\
schema: 1
name: home
nodes:
  cloud: {tier: cloud}
  hub:   {tier: edge, parent: cloud}
  door:  {tier: device, parent: hub}
  room:  {tier: device, count: 2, parent: hub}
workloads:
  who: {task: face-recognition, source: door, load: {kind: fixed, rate_hz: 5}}
  anybody: {task: occupancy, source: room, load: {kind: fixed, rate_hz: 5}}
"""


@pytest.fixture
def home(tmp_path: Path) -> Deployment:
    file = tmp_path / "home.yaml"
    file.write_text(HOME)
    return resolve(load(file, []), run_id="run", executor="local")


def check(deployment: Deployment, *texts: str) -> None:
    check_sensors(deployment, [parse_sensor(text, Path("/here")) for text in texts])


def test_devices_and_groups_of_a_run_may_have_sensors(home: Deployment) -> None:
    check(home, "door=camera:lavfi:testsrc", "room=program:sleep 1", "room-1/anybody=program:sh")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("bed=program:a", r"there is no device 'bed' \(there are door, room\)"),
        ("hub=program:a", "there is no device 'hub'"),
        ("door/anybody=program:a", r"'door' does not stream 'anybody' \(it streams who\)"),
    ],
)
def test_a_sensor_that_nothing_would_read_is_refused(home: Deployment, text: str, why: str) -> None:
    with pytest.raises(EdgebenchError, match=why):
        check(home, text)


def test_a_node_of_another_machine_is_told_of_its_sensor_there(home: Deployment) -> None:
    nodes = dict(home.nodes)
    nodes["door"] = msgspec.structs.replace(nodes["door"], machine="pi")
    away = msgspec.structs.replace(home, nodes=nodes)
    with pytest.raises(EdgebenchError, match=r"it runs on pi \(say it there: edgebench join … --sensor door=…\)"):
        check(away, "door=camera:/dev/video0")
