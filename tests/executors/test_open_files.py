"""How many open files each process of a run needs, told before anything starts."""

from __future__ import annotations

import resource
import subprocess
from pathlib import Path

import msgspec
import pytest

from edgebench.executors.open_files import largest_needs, open_files
from edgebench.fabric.descriptors import most_descriptors
from edgebench.topology import resolve
from edgebench.topology.deployment import Deployment, on_machines
from edgebench.topology.link_model import Link
from edgebench.topology.model import Federated, NodeGroup, Poisson, Topology, Workload
from tests.system.running import RUN_PATIENCE_S, command, faults_of, run

CROWD = """\
schema: 1
name: crowd
duration_s: 10
nodes:
  cloud: {tier: cloud}
  hub: {tier: edge, parent: cloud}
  room: {tier: device, count: 1200, parent: hub}
workloads:
  anybody: {task: occupancy, source: room, load: {kind: fixed, rate_hz: 0.1}, model: {runtime: fake}}
"""


def crowd(*, links: tuple[Link, ...] = (), broker: str | None = None, learning: bool = False) -> Deployment:
    """1,200 devices at each of two edges."""
    topology = Topology(
        schema=1,
        name="t",
        nodes={
            "cloud": NodeGroup(tier="cloud"),
            "hub": NodeGroup(tier="edge", count=2, parent="cloud"),
            "room": NodeGroup(tier="device", count=2400, parent="hub"),
        },
        links=links,
        workloads={"w": Workload(task="occupancy", source="room", load=Poisson(rate_hz=1.0))},
        federated=(Federated(workload="w", rounds=1, aggregate=("edge", "cloud")),) if learning else (),
    )
    return msgspec.structs.replace(resolve(topology, run_id="r", executor="local"), broker_url=broker)


def needs(deployment: Deployment) -> dict[str, int]:
    """What is needed beside what every process has of its own."""
    return {need.whose: need.files - 64 for need in open_files(deployment)}


def test_an_agent_needs_one_for_each_of_its_devices_and_a_broker_one_for_each_client() -> None:
    found = needs(crowd())
    assert found["the 1,200 devices of room at hub-1"] == 1200 + 2  # heartbeats, and files of the cloud's
    assert found["the 1,201 connections to the broker of hub-0"] == 1201
    assert max(found.values()) == 1202


def test_a_broker_of_somebody_elses_is_not_counted() -> None:
    assert not any("broker" in whose for whose in needs(crowd(broker="mqtt://host")))


def test_the_relay_needs_three_for_each_connection_that_it_carries() -> None:
    shaped = Link(between=("room", "hub"), latency_ms=2.0)
    assert needs(crowd(links=(shaped,)))["the 2,400 connections across emulated links"] == 2400 * 3


def test_devices_that_learn_have_files_open_besides() -> None:
    found = needs(crowd(learning=True))
    assert found["the 1,200 devices of room at hub-0"] == 3 * 1200 + 2 + 4  # transfers that share a way
    assert found["the 1,200 clients of hub-1"] == 2 * 1200


def test_each_process_counts_where_it_is() -> None:
    shaped = crowd(links=(Link(between=("room", "hub"), latency_ms=2.0),))
    at = {node: "pi" for node in shaped.nodes if node == "hub-1" or node.startswith("room-")}
    halves = largest_needs(on_machines(shaped, at))
    across = "the 1,200 connections across emulated links"
    assert halves == {name: (name, across, 3 * 1200 + 64) for name in ("here", "pi")}
    plain = largest_needs(on_machines(crowd(), at))
    assert plain["here"] == ("here", "the 1,201 connections to the broker of hub-0", 1201 + 64)
    assert plain["pi"].files == 1202 + 64


def test_what_the_hard_limit_cannot_hold_is_refused_before_anything_starts(tmp_path: Path) -> None:
    topology = tmp_path / "crowd.yaml"
    topology.write_text(CROWD)
    done = subprocess.run(
        command(topology, tmp_path / "runs"),
        capture_output=True,
        text=True,
        timeout=RUN_PATIENCE_S,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (256, 512)),
    )
    assert done.returncode == 2
    assert done.stderr.strip() == (
        f"{topology}: the 1,200 devices of room at hub need 1,266 open files in one process, and the hard "
        "limit is 512 (raise it, as root: ulimit -Hn 1266; or take fewer devices)"
    )
    assert not (tmp_path / "runs").exists()


@pytest.mark.long
@pytest.mark.skipif(most_descriptors() < 4096, reason="the hard limit of open files is too low here for 2,000 devices")
def test_two_thousand_devices_in_one_agent_come_up_under_a_soft_limit_of_a_thousand(tmp_path: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (1024, before[1]))
    try:
        _, result, _ = run(tmp_path, CROWD.replace("1200", "2000"))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    assert faults_of(result) == []
    assert result["workloads"]["anybody"]["decided"] == 2000
