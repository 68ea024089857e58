"""A run in containers: valid, each as tight and as apart as it should be, and nothing of it is left."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from edgebench.clock import now_s, sleep_s
from tests.conftest import ROOT
from tests.containers.hosts import Host, Running
from tests.system.running import RUN_PATIENCE_S, faults_of, run

pytestmark = [pytest.mark.long, pytest.mark.timeout(1800)]

TOPOLOGY = """\
schema: 1
name: wards
seed: 3
nodes:
  cloud: {tier: cloud}
  ward:  {tier: edge, count: 2, parent: cloud, memory_mb: 400}
  bed:   {tier: device, count: 4, parent: ward, memory_mb: 200}
links:
  - {between: [bed, ward], latency_ms: 2}
  - {between: [ward, cloud], latency_ms: 5}
workloads:
  watch: {task: occupancy, source: bed, load: {kind: fixed, rate_hz: 10}, model: {runtime: fake}}
"""
LISTENING = "print(*{line.split()[1] for line in open('/proc/net/tcp') if line.split()[3] == '0A'})"
REACH = """
import socket, sys
try:
    socket.create_connection((sys.argv[1], int(sys.argv[2])), 2).close()
    print("reached")
except OSError as error:
    print(type(error).__name__)
"""
UNREACHABLE = {"TimeoutError", "OSError"}

Start = Callable[..., Running]
"""Starts a run of a topology, with further words of the command, which is ended with the test."""


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("EDGEBENCH_HOME", str(tmp_path / "home"))
    return tmp_path / "home" / "containers"


@pytest.fixture(params=["docker", "podman"])
def host(request: pytest.FixtureRequest) -> Host:
    if request.param == "podman":
        found: Host = request.getfixturevalue("podman_host")
        return found
    return Host(request.getfixturevalue("docker_client"))


@pytest.fixture
def start(tmp_path: Path, host: Host, home: Path) -> Iterator[Start]:
    started: list[Running] = []

    def start_run(topology: str, *more: str) -> Running:
        started.append(Running(host, tmp_path, topology, *more))
        return started[-1]

    yield start_run
    for running in started:
        if running.process.poll() is None:
            running.command.terminate()
        running.process.wait(RUN_PATIENCE_S)


@pytest.fixture
def foreign(host: Host) -> Iterator[str]:
    """A network that is nobody's business."""
    made = host.client.networks.create("a-users-own", internal=True)
    yield made.name
    made.remove()


def test_a_run_in_containers_is_valid_and_each_reaches_its_own_site_only(
    start: Start, host: Host, home: Path, mosquitto: Path
) -> None:
    running = start(TOPOLOGY, "--duration-s", "30")
    containers = running.containers()
    assert sorted(containers) == ["ward-0", "ward-0-bed", "ward-1", "ward-1-bed"]
    for container in containers.values():
        _is_tight(container)
    limits = {name: each.attrs["HostConfig"]["Memory"] for name, each in containers.items()}
    assert limits == dict.fromkeys(containers, 400_000_000)
    image = host.client.images.get(containers["ward-0-bed"].attrs["Image"])
    assert image.attrs["Size"] <= 350_000_000
    _reaches_its_site_only(containers)

    assert running.process.wait(RUN_PATIENCE_S) in (0, 1)
    result = json.loads((running.run_dir / "result.json").read_text())
    assert faults_of(result) == [], running.log.read_text()
    assert (result["executor"], result["workloads"]["watch"]["lost"]) == ("containers", 0)
    assert result["workloads"]["watch"]["decided"] == 1200
    assert result["nodes"]["bed-0"]["machine"] == "ward-0-bed"
    assert {each["kind"] for each in result["brokers"].values()} == {"mosquitto"}
    assert "has ended here" in (running.run_dir / "logs/ward-1/join.log").read_text()
    assert running.left() == []
    assert [*home.iterdir()] == []


def _is_tight(container: Any) -> None:
    config, host = container.attrs["Config"], container.attrs["HostConfig"]
    assert config["User"] == "10001:10001"
    assert not host["CapAdd"]
    assert not host["Privileged"]
    assert host["ReadonlyRootfs"]
    assert not host["PortBindings"]
    assert [(each["Type"], each["Destination"]) for each in container.attrs["Mounts"]] == [
        ("volume", "/var/lib/edgebench")
    ]
    assert not re.search("token", " ".join(config["Cmd"]), re.IGNORECASE)
    assert "machine/heard" in config["Healthcheck"]["Test"][1]
    effective = said(container, "print(open('/proc/1/status').read())")
    # What engines list of what was dropped differs; this is what comes of it.
    assert re.findall(r"Cap(?:Prm|Eff|Bnd|Amb):\t(\w+)", effective) == ["0" * 16] * 4
    assert "NoNewPrivs:\t1" in effective


def said(container: Any, program: str, *arguments: str) -> str:
    return str(container.exec_run(["python3", "-c", program, *arguments]).output.decode()).strip()


def _reaches_its_site_only(containers: dict[str, Any]) -> None:
    device, edge, other = (containers[name] for name in ("ward-0-bed", "ward-0", "ward-1"))
    assert said(device, REACH, *_listens_at(edge)) == "reached"
    assert said(device, REACH, *_listens_at(other)) in UNREACHABLE
    assert said(device, REACH, _address(containers["ward-1-bed"]), "22") in UNREACHABLE
    assert said(edge, REACH, *_listens_at(other)) in UNREACHABLE
    assert said(device, REACH, "192.0.2.1", "80") in UNREACHABLE
    assert all(each.startswith("0B00007F") for each in said(device, LISTENING).split()), "but for the engine's resolver"


def _listens_at(container: Any) -> tuple[str, str]:
    """Its address and a port at which it listens: its broker, or a relay."""
    own = bytes(map(int, _address(container).split(".")))
    found = (each.split(":") for each in said(container, LISTENING).split())
    return _address(container), next(str(int(port, 16)) for host, port in found if bytes.fromhex(host)[::-1] == own)


def _address(container: Any) -> str:
    (network,) = container.attrs["NetworkSettings"]["Networks"].values()
    return str(network["IPAddress"])


LOST = """\
durability: process
faults:
  - {kind: restart, broker: ward-1, at_s: 3, for_s: 1}
  - {kind: clock, machine: ward-1, at_s: 6, by_ms: 400}
  - {kind: pause, machine: ward-1-bed, at_s: 8, for_s: 1}
  - {kind: kill, machine: ward-0-bed, at_s: 10}
"""


@pytest.mark.parametrize("host", ["docker"], indirect=True)
def test_a_container_is_a_machine_that_faults_happen_to(start: Start) -> None:
    running = start(TOPOLOGY + LOST, "--duration-s", "15")
    told = {name: _clock_of(each) for name, each in running.containers().items()}
    assert told == {**dict.fromkeys(told), "ward-1": "@/var/lib/edgebench/clock"}
    assert running.process.wait(RUN_PATIENCE_S) in (0, 1)
    result = json.loads((running.run_dir / "result.json").read_text())
    assert faults_of(result) == [], running.log.read_text()
    broker, clock, paused, gone = result["faults"]
    assert [(each["kind"], each["target"], each["name"]) for each in (clock, paused, gone)] == [
        ("clock", "machine", "ward-1"),
        ("pause", "machine", "ward-1-bed"),
        ("kill", "machine", "ward-0-bed"),
    ]
    assert broker["recovery_s"] > 0
    # What two of four beds had due at 10 Hz in the last 5 s was sensed by nobody; all else is decided.
    watch = result["workloads"]["watch"]
    assert 490 <= watch["scheduled"] <= 505
    assert watch["lost"] == sum(each["lost"] for each in (broker, clock, paused, gone)) <= 2
    (jumped,) = result["machines"]["ward-1"]["clock"]["jumped"]
    assert float(jumped.removeprefix("jumped forward by ").split()[0]) == pytest.approx(400.0, abs=20.0)
    deaths = {death["part"]: death["expected"] for death in result["deaths"]}
    assert deaths == dict.fromkeys(["broker of ward-1", "device agent of bed-0, bed-2"], True)


def _clock_of(container: Any) -> str | None:
    told = (each.partition("=") for each in container.attrs["Config"]["Env"])
    return {name: value for name, _, value in told}.get("EDGEBENCH_CLOCK")


def test_clean_removes_what_a_killed_run_has_left_and_nothing_else(
    start: Start, host: Host, home: Path, foreign: str
) -> None:
    def clean() -> dict[str, list[str]]:
        return dict(json.loads(host.run(sys.executable, "-m", "edgebench.cli", "clean", "--json")))

    def volumes() -> set[str]:
        return {each.name for each in host.client.volumes.list()}

    volumes_before = volumes()
    running = start(TOPOLOGY, "--duration-s", "600")
    there, made = running.left(), volumes() - volumes_before
    # Podman labels no volume without a name; it goes with its container.
    labelled = 4 if host.machine is None else 0
    assert (len(there), len(made)) == (4 + 2 + labelled, 4)
    going_on = clean()
    assert [len(going_on[each]) for each in ("containers", "networks", "volumes", "labs")] == [0, 0, 0, 0]
    assert len(going_on["left"]) == len(there)
    assert sorted(running.left()) == sorted(there)

    reaper = next(child for child in running.command.children() if "reaper" in str(child.cmdline()))
    for process in (reaper, running.command):
        process.kill()
    running.process.wait()
    assert sorted(running.left()) == sorted(there)
    cleaned = {kind: len(names) for kind, names in clean().items()}
    assert cleaned == {"containers": 4, "networks": 2, "volumes": labelled, "images": 0, "labs": 1, "left": 0}
    assert running.left() == []
    assert not made & volumes()
    assert [*home.iterdir()] == []
    assert foreign in [each.name for each in host.client.networks.list()]


def test_a_run_whose_command_is_killed_goes_away_by_itself(start: Start, home: Path) -> None:
    running = start(TOPOLOGY, "--duration-s", "600")
    running.command.kill()
    running.process.wait()
    until_s = now_s() + 120.0
    while running.left() or any(home.iterdir()) or not (running.run_dir / "result.json").exists():
        assert now_s() < until_s, running.left()
        sleep_s(0.2)
    result = json.loads((running.run_dir / "result.json").read_text())
    assert "the command edgebench itself was killed" in result["verdict"]["reasons"]


@pytest.mark.parametrize("host", ["docker"], indirect=True)
def test_devices_in_containers_learn_the_same_models_bit_by_bit_as_on_this_machine(
    start: Start, tmp_path: Path
) -> None:
    topology = (ROOT / "topologies" / "icu-federated.yaml").read_text()
    sooner = ("--duration-s", "15", "--set", "federated[0].interval_s=0")
    running = start(topology, *sooner)
    assert running.process.wait(RUN_PATIENCE_S) in (0, 1)
    contained = json.loads((running.run_dir / "result.json").read_text())
    (tmp_path / "here").mkdir()
    _, here, _ = run(tmp_path / "here", topology, *sooner)
    for result in (contained, here):
        assert faults_of(result) == []
        assert result["workloads"]["death-risk"]["decided"] == result["workloads"]["death-risk"]["scheduled"] > 0
        rounds = result["federated"]["death-risk"]["rounds"]
        assert [(each["clients"], each["failures"], each["skipped"]) for each in rounds] == [(2, 0, None)] * 5
    assert {contained["nodes"][f"bed-{n}"]["machine"] for n in range(8)} == {"ward-0-bed", "ward-1-bed"}
    in_containers, on_this_machine = (
        [each["model"] for each in result["federated"]["death-risk"]["rounds"]] for result in (contained, here)
    )
    assert len(set(on_this_machine)) == 5
    assert in_containers == on_this_machine
